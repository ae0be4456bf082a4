//! HAProxy, which leads to the primary of a PostgreSQL that fails over.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;

use crate::service::{Plan, Service};
use crate::{TestbedError, http, ports, tools};

/// What operators are told to use; only addresses and the pace differ here.
const CONFIG: &str = include_str!("../../../deploy/patroni/haproxy.cfg");

/// One member of the cluster behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upstream {
    pub(crate) postgres: u16,
    /// Where Patroni says whether the member leads.
    pub(crate) patroni: u16,
}

/// An HAProxy that sends every connection to the member that leads.
#[derive(Debug)]
pub(crate) struct Haproxy {
    service: Service,
}

impl Haproxy {
    pub(crate) fn start(upstreams: &[Upstream]) -> Result<Self, TestbedError> {
        let program = tools::find("haproxy")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("haproxy", &[port], |_, ports| {
                ports
                    .first()
                    .is_some_and(|port| http::connect(*port).is_ok())
            })?;
            fs::write(
                plan.folder.path().join("haproxy.cfg"),
                config(port, upstreams)?,
            )
            .map_err(TestbedError::io("haproxy.cfg"))?;
            plan.command([&program]);
            plan.command(["-db", "-f", "haproxy.cfg"]); // in the foreground
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        http::loopback(self.service.port())
    }
}

/// The operators' file with these addresses, and with looks as often as fail-overs of seconds need them.
fn config(port: u16, upstreams: &[Upstream]) -> Result<String, TestbedError> {
    let mut servers = String::new();
    for (number, upstream) in upstreams.iter().enumerate() {
        let Upstream { postgres, patroni } = upstream;
        // Writing to a string does not fail.
        let _ = writeln!(
            servers,
            "    server pg{number} 127.0.0.1:{postgres} check port {patroni}"
        );
    }
    let (head, examples) = CONFIG
        .split_once("    server ")
        .ok_or_else(|| changed("server"))?;
    if let Some(line) = examples
        .lines()
        .skip(1)
        .find(|line| !line.trim().starts_with("server "))
    {
        return Err(changed(line));
    }
    let mut config = format!("{head}{servers}");
    for (theirs, ours) in [
        ("bind *:5432", format!("bind 127.0.0.1:{port}")),
        ("inter 2s", "inter 500ms".to_owned()),
    ] {
        if !config.contains(theirs) {
            return Err(changed(theirs));
        }
        config = config.replace(theirs, &ours);
    }
    Ok(config)
}

fn changed(what: &str) -> TestbedError {
    tools::refused(
        "deploy/patroni/haproxy.cfg",
        &format!("not as expected: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_file_is_used_with_other_addresses() {
        let upstreams = [(1, 2), (3, 4)].map(|(postgres, patroni)| Upstream { postgres, patroni });
        let config = config(7, &upstreams).unwrap();
        for line in [
            "bind 127.0.0.1:7",
            "server pg1 127.0.0.1:3 check port 4",
            "on-marked-down shutdown-sessions",
        ] {
            assert!(config.contains(line), "{line} in {config}");
        }
        assert!(!config.contains("10.0.0."), "{config}");
    }
}
