//! PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;

use crate::service::{Plan, Service};
use crate::shared::Shared;
use crate::tools::{self, User};
use crate::{TestbedError, ports};

/// Makes the data folder at the first start. `$1` is the folder of the programs, `$2` an option of initdb or nothing; the rest
/// is for the server. Text sorts as people of a language sort it, as in most installations, and not by bytes: a query that
/// forgets `COLLATE "C"` shows. ICU, since the machine may lack the locales.
const START: &str = r#"
bin=$1 sync=$2
shift 2
[ -e data/PG_VERSION ] || "$bin/initdb" --pgdata data --auth trust --username postgres --encoding UTF8 --no-locale \
  --locale-provider icu --icu-locale en-US $sync || exit
exec "$bin/postgres" -D data "$@"
"#;

/// How a PostgreSQL server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Running transactions are rolled back and clients disconnected; a clean shutdown.
    Fast,
    /// Without a checkpoint: the next start recovers from the log.
    Immediate,
    /// The server process is killed, as by the kernel when memory is short.
    Kill,
}

/// A PostgreSQL server with one superuser `postgres` and no password.
#[derive(Debug)]
pub struct Postgres {
    service: Service,
    programs: PathBuf,
}

impl Postgres {
    /// Starts a server that writes as durably as in production.
    pub fn start() -> Result<Self, TestbedError> {
        Self::start_with(&[])
    }

    /// Starts a server that never waits for the disk; it survives its own death, but not the machine's.
    pub fn start_fast() -> Result<Self, TestbedError> {
        Self::start_with(&["fsync=off", "full_page_writes=off"])
    }

    /// The one fast server of this process.
    pub fn shared() -> Result<&'static Self, TestbedError> {
        static SHARED: Shared<Postgres> = Shared::new();
        SHARED.get(Self::start_fast)
    }

    /// Starts a server with further settings (`"name=value"`); with `fsync=off` its making is faster too.
    pub fn start_with(settings: &[&str]) -> Result<Self, TestbedError> {
        let programs = programs()?;
        let user = User::instead_of_root("postgres")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("postgres", &[port], is_ready)?;
            plan.user = user;
            plan.last_signal = "QUIT"; // at once, but its shared memory is given back
            plan.command(["sh", "-c", START, "sh"]);
            plan.command([&programs]);
            plan.command([if settings.contains(&"fsync=off") {
                "--no-sync"
            } else {
                ""
            }]);
            let port = format!("port={port}");
            let own = [
                port.as_str(),
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "max_connections=200",
            ];
            for setting in own.iter().chain(settings) {
                plan.command(["-c", setting]);
            }
            Service::start(plan)
        })?;
        Ok(Self { service, programs })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// The URL of a database, whether there is such a one or not; `postgres` always exists.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port())
    }

    /// Makes an empty database with a name of its own and gives its URL.
    pub fn create_database(&self) -> Result<String, TestbedError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Runs SQL with `psql` and gives the bare values, one row a line.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, TestbedError> {
        psql(&self.programs, &self.url(database), sql)
    }

    /// Stops the server; its data and its port stay for [`start_again`](Self::start_again).
    pub fn stop(&mut self, mode: StopMode) -> Result<(), TestbedError> {
        self.service.stop(match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
            StopMode::Kill => Signal::KILL,
        })
    }

    /// Starts a stopped server on the same port with the same data.
    pub fn start_again(&mut self) -> Result<(), TestbedError> {
        self.service.start_again()
    }

    /// Starts a stopped server as a standby, which can be read; [`promote`](Self::promote) makes it a primary again.
    pub fn start_as_standby(&mut self) -> Result<(), TestbedError> {
        let signal = self.service.folder().join("data/standby.signal");
        fs::write(signal, "").map_err(TestbedError::io("standby.signal"))?;
        self.service.start_again()
    }

    /// Makes a standby the primary, and waits until it is.
    pub fn promote(&self) -> Result<(), TestbedError> {
        self.psql("postgres", "SELECT pg_promote()").map(drop)
    }
}

/// The folder of the server's programs. Past the links and wrappers in PATH, those of one version lie together.
pub(crate) fn programs() -> Result<PathBuf, TestbedError> {
    let server = tools::find("postgres")?;
    fs::canonicalize(&server)
        .ok()
        .and_then(|file| file.parent().map(Path::to_owned))
        .ok_or_else(|| tools::refused("postgres", "has no folder"))
}

/// Runs SQL at `url` with the `psql` among `programs`.
pub(crate) fn psql(programs: &Path, url: &str, sql: &str) -> Result<String, TestbedError> {
    tools::run(
        Command::new(programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set", "ON_ERROR_STOP=1", "--dbname", url])
            .args(["--command", sql]),
    )
    .map(|output| output.trim_end().to_owned())
}

/// The server writes its state as the eighth line of its lock file, behind process, folder, time and addresses.
fn is_ready(folder: &Path, _: &[u16]) -> bool {
    let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap_or_default();
    lock.lines()
        .nth(7)
        .is_some_and(|state| ["ready", "standby"].contains(&state.trim()))
}
