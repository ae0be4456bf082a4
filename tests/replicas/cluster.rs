//! What is tested: replicas, their back ends and everything between them that can break.

mod backends;
mod database;
mod replica;

use std::{path::PathBuf, time::Duration};

use granary_testbed::Nginx;
use tempfile::TempDir;

pub(crate) use self::{
    backends::{Backends, Links},
    database::Database,
    replica::Replica,
};
use crate::world::Door;

/// How long things stay in the registry under test.
pub(crate) const GRACE: Duration = Duration::from_secs(8);
pub(crate) const EXPIRY: Duration = Duration::from_secs(20);

const REPLICAS: usize = 3;

/// Which back ends the replicas have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// SeaweedFS, or MinIO.
    pub(crate) seaweedfs: bool,
    /// A PostgreSQL that fails over, or one server.
    pub(crate) fails_over: bool,
}

/// The registry under test.
pub(crate) struct Cluster {
    pub(crate) replicas: Vec<Replica>,
    /// None for a replica that has everything in its own folder.
    pub(crate) backends: Option<Backends>,
    folder: Option<TempDir>,
}

impl Cluster {
    /// One replica on SQLite and files: the checker must find nothing wrong with it.
    pub(crate) fn embedded() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = granary_testbed::free_port().unwrap();
        let replica = Replica::new("embedded".to_owned(), port, folder.path(), settings());
        let cluster = Self {
            replicas: vec![replica],
            backends: None,
            folder: Some(folder),
        };
        cluster.start();
        cluster
    }

    /// Three replicas on PostgreSQL, S3 and Redis behind nginx.
    pub(crate) async fn shared(seed: u64, setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut backends = Backends::start(REPLICAS, seed, setup).await;
        let replicas: Vec<Replica> = (0..REPLICAS)
            .map(|number| {
                let port = granary_testbed::free_port().unwrap();
                let settings = [settings(), backends.settings(number)].concat();
                Replica::new(format!("replica-{number}"), port, folder.path(), settings)
            })
            .collect();
        let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
        backends.nginx = Some(Nginx::start(&addresses).unwrap());
        let cluster = Self {
            replicas,
            backends: Some(backends),
            folder: Some(folder),
        };
        cluster.start();
        cluster
    }

    /// All at once: they agree among themselves who makes the schema.
    fn start(&self) {
        for replica in &self.replicas {
            replica.start(None);
        }
        for replica in &self.replicas {
            assert!(
                replica.becomes_ready(),
                "{} is not ready:\n{}",
                replica.name,
                std::fs::read_to_string(replica.log()).unwrap_or_default()
            );
        }
    }

    /// The ways in, the balancer first if there is one.
    pub(crate) fn doors(&self) -> Vec<Door> {
        let nginx = self.backends.as_ref().and_then(|all| all.nginx.as_ref());
        let balancer = nginx.map(|nginx| Door {
            name: "the balancer".to_owned(),
            url: format!("http://{}", nginx.address()),
        });
        let direct = self.replicas.iter().map(Self::door);
        balancer.into_iter().chain(direct).collect()
    }

    pub(crate) fn door(replica: &Replica) -> Door {
        Door {
            name: replica.name.clone(),
            url: format!("http://{}", replica.address),
        }
    }

    /// Keeps what the replicas wrote, for whoever looks into a failure.
    pub(crate) fn keep(&mut self) -> Option<PathBuf> {
        self.folder.take().map(TempDir::keep)
    }
}

fn settings() -> Vec<(&'static str, String)> {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    vec![
        ("GRANARY_GC__GRACE", seconds(GRACE)),
        ("GRANARY_GC__INTERVAL", "1s".to_owned()),
        ("GRANARY_UPLOADS__EXPIRY", seconds(EXPIRY)),
        // Requests keep coming, so that a drain takes as long as it may.
        ("GRANARY_SERVER__DRAIN_TIMEOUT", "2s".to_owned()),
        ("GRANARY_LOG__LEVEL", "info".to_owned()),
    ]
}
