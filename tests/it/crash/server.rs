//! One life of a server.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Longest that a dying process may take.
const DEATH: Duration = Duration::from_secs(10);

pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
    /// Closing it would make its next line an error.
    _output: BufReader<ChildStdout>,
}

/// `granary COMMAND --data DATA`, with nothing of the tester's own environment that it could read.
pub(super) fn granary(command: &str, data: &Path) -> Command {
    let mut granary = Command::new(env!("CARGO_BIN_EXE_granary"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GRANARY_") {
            granary.env_remove(name);
        }
    }
    granary
        .env_remove("FAILPOINTS")
        .arg(command)
        .arg("--data")
        .arg(data)
        .stdin(Stdio::null());
    granary
}

impl Server {
    /// Starts `command`; `Err` if it died before it listened.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self, ExitStatus> {
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("GRANARY_LOG__LEVEL", "warn");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // A line cut short is the end too.
        let _ = output.read_line(&mut line);
        match line.trim_end().strip_prefix("Granary listens on http://") {
            Some(address) if line.ends_with('\n') => Ok(Self {
                child,
                address: address.parse().unwrap(),
                _output: output,
            }),
            _ => {
                let _ = child.kill();
                Err(child.wait().unwrap())
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end of a process that nobody could reach any more.
    pub(super) fn expect_death(mut self) -> ExitStatus {
        let deadline = Instant::now() + DEATH;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "a connection broke, but the server lives"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn kill(mut self) {
        // It may have died on its own.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Only a failed test leaves one running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a server from outside, wherever it is.
pub(super) fn kill(pid: Pid) {
    let _ = kill_process(pid, Signal::KILL);
}

pub(super) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}
