//! One member: Patroni, and the PostgreSQL that it starts and stops.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::Pace;
use crate::haproxy::Upstream;
use crate::service::{Plan, Service};
use crate::tools::{self, User};
use crate::{TestbedError, http, ports};

/// What operators are told to use. Patroni reads all files of its folder in the order of their names, and ours is behind it.
const CONFIG: &str = include_str!("../../../../deploy/patroni/patroni.yml");

pub(super) const PASSWORD: &str = "secret";

/// Ends PostgreSQL, which is no child of Patroni, also one that is stopped. If it had been killed, its shared memory goes too.
const FAREWELL: &str = r#"
[ -e data/postmaster.pid ] || exit 0
pid=$(sed -n 1p data/postmaster.pid)
kill -s QUIT "$pid" && kill -s CONT "$pid" $(cat "/proc/$pid/task/$pid/children")
tries=100
while kill -0 "$pid" && [ $tries -gt 0 ]; do
  sleep 0.1
  tries=$((tries - 1))
done
kill -s KILL "$pid"
[ ! -e data/postmaster.pid ] || ipcrm -m "$(awk 'NR == 7 {print $2}' data/postmaster.pid)"
"#;

/// One member of the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) upstream: Upstream,
    service: Service,
    /// Whether it can be asked: it was neither killed nor stopped.
    pub(super) awake: bool,
}

impl Member {
    /// Starts Patroni; PostgreSQL is not waited for.
    pub(super) fn start(
        number: usize,
        etcd: u16,
        programs: &Path,
        user: Option<User>,
        pace: &Pace,
    ) -> Result<Self, TestbedError> {
        let name = format!("pg{number}");
        let program = tools::find("patroni")?;
        let mut upstream = None;
        let service = ports::with_free(|[patroni, postgres]| {
            let mut plan = Plan::new("patroni", &[patroni], |_, ports| {
                let port = ports.first().copied().unwrap_or_default();
                http::status(port, "/liveness").is_some()
            })?;
            let ours = config(
                &name,
                plan.folder.path(),
                patroni,
                postgres,
                etcd,
                programs,
                pace,
            );
            let files = plan.folder.path().join("config");
            fs::create_dir(&files)
                .and_then(|()| fs::write(files.join("1.yml"), CONFIG))
                .and_then(|()| fs::write(files.join("2.yml"), ours.to_string()))
                .and_then(|()| match user {
                    // The watchdog runs as this user and takes the folder away.
                    Some(User { uid, gid }) => chown(&files, Some(uid), Some(gid)),
                    None => Ok(()),
                })
                .map_err(TestbedError::io("Patroni's configuration"))?;
            plan.user = user;
            plan.last_act = FAREWELL;
            plan.command([&program]);
            plan.command(["config"]);
            upstream = Some(Upstream { postgres, patroni });
            Service::start(plan)
        })?;
        let upstream = upstream.ok_or_else(|| tools::refused("patroni", "has no ports"))?;
        Ok(Self {
            name,
            upstream,
            service,
            awake: true,
        })
    }

    /// SIGKILL for all of it at once, as when the machine dies.
    pub(super) fn kill(&mut self) -> Result<(), TestbedError> {
        self.awake = false;
        self.signal(Signal::KILL);
        self.service.stop(Signal::KILL)
    }

    /// Starts Patroni again, which brings PostgreSQL back in the role that is left for it.
    pub(super) fn start_again(&mut self) -> Result<(), TestbedError> {
        self.service.start_again()?;
        self.awake = true;
        Ok(())
    }

    /// Stops all its processes where they are.
    pub(super) fn freeze(&mut self) {
        self.awake = false;
        // What was forked meanwhile is met in the second round.
        self.signal(Signal::STOP);
        self.signal(Signal::STOP);
    }

    /// Lets them go on.
    pub(super) fn thaw(&mut self) {
        self.signal(Signal::CONT);
        self.awake = true;
    }

    fn signal(&self, signal: Signal) {
        let postmaster = fs::read_to_string(self.service.folder().join("data/postmaster.pid"));
        let postmaster = postmaster.ok().and_then(|file| pid(file.lines().next()?));
        // Patroni first: it would start a PostgreSQL that is gone.
        let mut processes: Vec<Pid> = self
            .service
            .process()
            .into_iter()
            .chain(postmaster)
            .collect();
        let mut next = 0;
        while let Some(process) = processes.get(next).copied() {
            processes.extend(children(process));
            next += 1;
        }
        for process in processes {
            // It may have ended this moment.
            let _ = kill_process(process, signal);
        }
    }

    /// What Patroni says of its member (`/patroni`) or of all (`/cluster`).
    pub(super) fn state(&self, path: &str) -> Option<Value> {
        let answer = self.ask("GET", path, &Value::Null).ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    /// Whether it leads, as HAProxy asks it.
    pub(super) fn leads(&self) -> bool {
        self.awake && http::status(self.upstream.patroni, "/primary") == Some(200)
    }

    pub(super) fn ask(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> std::io::Result<http::Response> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        http::request(self.upstream.patroni, method, path, &body)
    }

    /// The end of what Patroni and PostgreSQL wrote.
    pub(super) fn log(&self) -> String {
        self.service.log()
    }
}

fn children(process: Pid) -> Vec<Pid> {
    let number = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let children = children.unwrap_or_default();
    children.split_ascii_whitespace().filter_map(pid).collect()
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}

/// What is another one here than in the operators' file.
fn config(
    name: &str,
    folder: &Path,
    patroni: u16,
    postgres: u16,
    etcd: u16,
    programs: &Path,
    pace: &Pace,
) -> Value {
    let local = |port: u16| format!("127.0.0.1:{port}");
    json!({
        "name": name,
        "restapi": {"listen": local(patroni), "connect_address": local(patroni)},
        "etcd3": {"hosts": local(etcd)},
        "bootstrap": {"dcs": {
            "ttl": pace.ttl,
            "loop_wait": pace.loop_wait,
            "retry_timeout": pace.retry_timeout,
        }},
        "postgresql": {
            "listen": local(postgres),
            "connect_address": local(postgres),
            "data_dir": folder.join("data"),
            "bin_dir": programs,
            "pgpass": folder.join("pgpass"),
            "authentication": {
                "superuser": {"password": PASSWORD},
                "replication": {"password": PASSWORD},
            },
            "parameters": {"unix_socket_directories": ""},
        },
        "watchdog": {"mode": "off"},
    })
}
