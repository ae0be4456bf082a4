//! One `granary serve` on a fixed address.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a replica may take to be ready when nothing is wrong.
const READY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Replica {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Mutex<Option<Child>>,
}

impl Replica {
    /// A replica that does not run yet, with its data and its log in `folder`.
    pub(crate) fn new(
        name: String,
        port: u16,
        folder: &Path,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            name,
            address: ([127, 0, 0, 1], port).into(),
            environment,
            child: Mutex::default(),
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    fn command(&self, command: &str) -> Command {
        let mut granary = Command::new(env!("CARGO_BIN_EXE_granary"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GRANARY_") {
                granary.env_remove(name);
            }
        }
        granary
            .env_remove("FAILPOINTS")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg(command)
            .arg("--data")
            .arg(self.data())
            .stdin(Stdio::null());
        granary
    }

    /// Starts the process, if it does not run; it is not waited for.
    pub(crate) fn start(&self, failpoints: Option<&str>) {
        let mut child = self.child();
        if child
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
        {
            return;
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = self.command("serve");
        command
            .args(["--listen", &self.address.to_string(), "--allow-anonymous"])
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if let Some(failpoints) = failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        *child = Some(command.spawn().unwrap());
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            // It may have died at a failpoint.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and the end; after `patience` it is killed. Whether it ended by itself.
    pub(crate) fn drain(&self, patience: Duration) -> bool {
        self.signal(Signal::TERM);
        let since = Instant::now();
        while since.elapsed() < patience {
            if !self.runs() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        self.kill();
        false
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = self.child().as_ref() {
            // It may have died at a failpoint; it is not waited for, so that the number is still its own.
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.child()
            .as_mut()
            .is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Waits until it is ready, and starts it again should it have died. `false` if that never comes.
    pub(crate) fn becomes_ready(&self) -> bool {
        let since = Instant::now();
        while since.elapsed() < READY {
            self.start(None);
            if self.is_ready() {
                return true;
            }
            std::thread::sleep(POLL);
        }
        false
    }

    pub(crate) fn is_ready(&self) -> bool {
        let ask = || {
            let second = Duration::from_secs(3);
            let mut stream = TcpStream::connect_timeout(&self.address, second)?;
            stream.set_read_timeout(Some(second))?;
            stream.write_all(b"GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ask().is_ok_and(|answer| answer.ends_with(b" 200"))
    }

    /// One pass of garbage collection. The report, or what went wrong.
    pub(crate) fn collect(&self) -> Result<String, String> {
        let output = self.command("gc").arg("--json").output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}
