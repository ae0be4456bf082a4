//! A server as a child process under its watchdog.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use crate::TestbedError;
use crate::ports;
use crate::tools::User;

const WATCHDOG: &str = include_str!("watchdog.sh");
/// How long a start or a stop may take on a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
/// How much of a log an error shows.
const LOG_TAIL: usize = 4096;

/// What to run, where, and how to see that it is ready.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) folder: TempDir,
    pub(crate) command: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    pub(crate) user: Option<User>,
    /// The signal with which the watchdog ends the server.
    pub(crate) last_signal: &'static str,
    /// Files outside the folder that the server leaves behind; their names have no spaces.
    pub(crate) litter: Vec<String>,
    /// What the watchdog does when the server is gone, in shell: for processes that left the server's group.
    pub(crate) last_act: &'static str,
    /// All ports on which the server listens; the first is the one that clients use.
    pub(crate) ports: Vec<u16>,
    /// Whether the server, which holds its ports already, answers as it should.
    pub(crate) ready: fn(&Path, &[u16]) -> bool,
}

impl Plan {
    /// A plan with defaults: our own user, and no mercy at the end.
    pub(crate) fn new(
        name: &'static str,
        ports: &[u16],
        ready: fn(&Path, &[u16]) -> bool,
    ) -> Result<Self, TestbedError> {
        Ok(Self {
            name,
            folder: folder(name)?,
            command: Vec::new(),
            environment: Vec::new(),
            user: None,
            last_signal: "KILL",
            litter: Vec::new(),
            last_act: "",
            ports: ports.to_vec(),
            ready,
        })
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&mut self, parts: impl IntoIterator<Item = S>) {
        let parts = parts.into_iter().map(|part| part.as_ref().to_owned());
        self.command.extend(parts);
    }
}

fn folder(name: &str) -> Result<TempDir, TestbedError> {
    tempfile::Builder::new()
        .prefix(&format!("granary-{name}-"))
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .map_err(TestbedError::io("a temporary folder"))
}

/// A server that answers, or one that was stopped and can be started again.
#[derive(Debug)]
pub(crate) struct Service {
    name: &'static str,
    folder: TempDir,
    ports: Vec<u16>,
    ready: fn(&Path, &[u16]) -> bool,
    watchdog: Child,
    /// The pipe whose end is the server's end.
    leash: Option<ChildStdin>,
    running: bool,
}

impl Service {
    pub(crate) fn start(plan: Plan) -> Result<Self, TestbedError> {
        // A file, and not an argument, keeps lists of processes readable.
        fs::write(plan.folder.path().join("watchdog.sh"), WATCHDOG)
            .map_err(TestbedError::io("the watchdog's script"))?;
        let mut command = Command::new("sh");
        command
            .arg("watchdog.sh")
            .arg(plan.folder.path())
            .args([plan.last_signal, &plan.litter.join(" "), plan.last_act])
            .args(&plan.command)
            .env("TMPDIR", plan.folder.path())
            .envs(plan.environment)
            .current_dir(plan.folder.path())
            .stdin(Stdio::piped())
            // Whoever reads our output would wait for the watchdog otherwise.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C at a terminal is for the test; the watchdog must survive it.
            .process_group(0);
        if let Some(User { uid, gid }) = plan.user {
            chown(plan.folder.path(), Some(uid), Some(gid))
                .map_err(TestbedError::io("giving the folder away"))?;
            command.uid(uid).gid(gid);
        }
        let mut watchdog = command.spawn().map_err(TestbedError::io("sh"))?;
        let mut service = Self {
            name: plan.name,
            folder: plan.folder,
            ports: plan.ports,
            ready: plan.ready,
            leash: watchdog.stdin.take(),
            watchdog,
            running: false,
        };
        service.run()?;
        Ok(service)
    }

    /// The port that clients use.
    pub(crate) fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    /// Starts what was stopped, on the same ports and with the same folder.
    pub(crate) fn start_again(&mut self) -> Result<(), TestbedError> {
        let since = Instant::now();
        while !self.running {
            match self.run() {
                // Processes of the killed server may hold a port or memory for a moment.
                Err(TestbedError::Ended { .. }) if since.elapsed() < DEADLINE / 3 => {
                    thread::sleep(POLL);
                }
                result => return result,
            }
        }
        Ok(())
    }

    /// Sends a signal and waits until the server is gone.
    pub(crate) fn stop(&mut self, signal: Signal) -> Result<(), TestbedError> {
        if !self.running || self.exit_code().is_some() {
            self.running = false;
            return Ok(());
        }
        self.signal(signal)?;
        let gone = wait(|| self.exit_code().is_some());
        if !gone {
            if let Some(pid) = self.pid().and_then(|pid| process(&pid)) {
                // It may have gone this moment.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            return Err(self.late("stop"));
        }
        self.running = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), TestbedError> {
        let pid = self.pid().and_then(|pid| process(&pid));
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| {
            kill_process(pid, signal)
        });
        match sent {
            // It has just ended, and its code is about to be written.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(TestbedError::io(format!(
                "signal {signal:?} to {}",
                self.name
            ))(error.into())),
        }
    }

    fn run(&mut self) -> Result<(), TestbedError> {
        for file in ["pid", "exited"] {
            match fs::remove_file(self.folder.path().join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(TestbedError::io(format!("removing {file}"))(error));
                }
                _ => {}
            }
        }
        if let Some(leash) = &mut self.leash {
            leash
                .write_all(b"start\n")
                .map_err(TestbedError::io(format!("the watchdog of {}", self.name)))?;
        }
        let ready = wait(|| self.exit_code().is_some() || self.is_ready());
        if let Some(code) = self.exit_code() {
            return Err(TestbedError::Ended {
                name: self.name,
                code,
                log: self.log(),
            });
        }
        if !ready {
            return Err(self.late("answer"));
        }
        self.running = true;
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.pid()
            .is_some_and(|pid| ports::held_by(&pid, &self.ports))
            && (self.ready)(self.folder.path(), &self.ports)
    }

    /// The folder in which it runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its first process, if it was not stopped.
    pub(crate) fn process(&self) -> Option<Pid> {
        self.pid()
            .filter(|_| self.exit_code().is_none())
            .and_then(|pid| process(&pid))
    }

    fn pid(&self) -> Option<String> {
        self.line("pid")
    }

    fn exit_code(&self) -> Option<String> {
        self.line("exited")
    }

    /// A file that holds one line, once the line is whole.
    fn line(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.path().join(file)).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    }

    /// The end of what it wrote.
    pub(crate) fn log(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        let tail = log.get(log.len().saturating_sub(LOG_TAIL)..);
        String::from_utf8_lossy(tail.unwrap_or_default()).into_owned()
    }

    fn late(&self, what: &'static str) -> TestbedError {
        TestbedError::Late {
            name: self.name,
            what,
            within: DEADLINE,
            log: self.log(),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.leash.take());
        // Nobody could be told of a failure; the watchdog is a child and can be waited for.
        let _ = self.watchdog.wait();
    }
}

fn process(pid: &str) -> Option<Pid> {
    Pid::from_raw(pid.parse().ok()?)
}

/// Asks until the answer is yes; no when the deadline passed.
fn wait(done: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while since.elapsed() < DEADLINE {
        if done() {
            return true;
        }
        thread::sleep(POLL);
    }
    false
}
