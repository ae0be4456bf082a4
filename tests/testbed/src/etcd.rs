//! etcd, where the members of a cluster agree on who leads.

use crate::service::{Plan, Service};
use crate::{TestbedError, http, ports, tools};

/// One etcd by itself.
#[derive(Debug)]
pub(crate) struct Etcd {
    service: Service,
}

impl Etcd {
    pub(crate) fn start() -> Result<Self, TestbedError> {
        let program = tools::find("etcd")?;
        let service = ports::with_free(|[clients, peers]| {
            let mut plan = Plan::new("etcd", &[clients, peers], |_, ports| {
                let port = ports.first().copied().unwrap_or_default();
                http::status(port, "/health") == Some(200)
            })?;
            let url = |port| format!("http://127.0.0.1:{port}");
            let (clients, peers) = (url(clients), url(peers));
            plan.command([&program]);
            plan.command(["--name", "etcd", "--data-dir", "data"]);
            plan.command(["--listen-client-urls", &clients]);
            plan.command(["--advertise-client-urls", &clients]);
            plan.command(["--listen-peer-urls", &peers]);
            plan.command(["--initial-advertise-peer-urls", &peers]);
            plan.command(["--initial-cluster", &format!("etcd={peers}")]);
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.service.port()
    }
}
