//! The PostgreSQL behind the replicas: one server, or a cluster that fails over.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use granary_testbed::{Patroni, Postgres};

const NAME: &str = "granary";

/// Members of a cluster: a primary may die while one standby is left that knows all, and one to which it can write.
const MEMBERS: usize = 3;

pub(crate) enum Database {
    /// One server, and the disk that its tables lie on where that can be filled.
    Single(Postgres, Option<Disk>),
    /// Patroni, with HAProxy before it.
    Cluster(Patroni),
}

impl Database {
    /// An empty database.
    pub(crate) fn start(fails_over: bool) -> Self {
        let (database, on) = if fails_over {
            (Self::Cluster(Patroni::start(MEMBERS).unwrap()), "")
        } else {
            let (server, disk) = (Postgres::start().unwrap(), Disk::mount());
            let on = disk.as_ref().map_or("", |disk| disk.lend_to(&server));
            (Self::Single(server, disk), on)
        };
        database.run("postgres", &format!("CREATE DATABASE {NAME}{on}"));
        database
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Single(server, _) => ([127, 0, 0, 1], server.port()).into(),
            Self::Cluster(cluster) => cluster.address(),
        }
    }

    /// What a replica is told that reaches it at `address`.
    pub(crate) fn url(&self, address: SocketAddr) -> String {
        let login = match self {
            Self::Single(..) => "postgres".to_owned(),
            Self::Cluster(cluster) => cluster.login(),
        };
        format!("postgres://{login}@{address}/{NAME}")
    }

    /// Runs SQL, past all proxies.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.run(NAME, sql)
    }

    fn run(&self, database: &str, sql: &str) -> String {
        let answer = match self {
            Self::Single(server, _) => server.psql(database, sql),
            Self::Cluster(cluster) => cluster.psql(database, sql),
        };
        answer.unwrap()
    }

    pub(crate) fn single(&mut self) -> &mut Postgres {
        match self {
            Self::Single(server, _) => server,
            Self::Cluster(_) => panic!("this fault is for one server"),
        }
    }

    pub(crate) fn cluster(&mut self) -> &mut Patroni {
        match self {
            Self::Cluster(cluster) => cluster,
            Self::Single(..) => panic!("this fault is for a cluster"),
        }
    }

    /// Where the tables lie, if that disk can be filled.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        match self {
            Self::Single(_, disk) => disk.as_ref(),
            Self::Cluster(_) => None,
        }
    }
}

/// A small file system in memory. Only root has it.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        // Long loads leave dead rows that PostgreSQL has not cleared away yet.
        let size = match std::env::var_os("GRANARY_SOAK_SECONDS") {
            Some(_) => "3g",
            None => "512m",
        };
        // Others must be able to come through.
        let run = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=755"),
                "tmpfs",
            ])
            .arg(folder.path())
            .output();
        run.ok()?.status.success().then_some(Self { folder })
    }

    /// The tables lie on a disk of their own: one that is full stops every write, as in life. Gives the clause that says so.
    fn lend_to(&self, server: &Postgres) -> &'static str {
        let folder = self.folder.path().join("tables");
        fs::create_dir(&folder).unwrap();
        let run = Command::new("chown").arg("postgres").arg(&folder).status();
        assert!(run.unwrap().success());
        let create = format!("CREATE TABLESPACE small LOCATION '{}'", folder.display());
        server.psql("postgres", &create).unwrap();
        " TABLESPACE small"
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let file = fs::File::create(self.filler()).unwrap();
        let piece = vec![0; 1 << 20];
        for piece in [&piece[..], &piece[..4096]] {
            while std::io::Write::write_all(&mut &file, piece).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn clear(&self) {
        // It may not be full.
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path: &Path = self.folder.path();
        // PostgreSQL may still be ending: the file system goes when its last user does.
        let _ = Command::new("umount").arg("--lazy").arg(path).status();
    }
}
