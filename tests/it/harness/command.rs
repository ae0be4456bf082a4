//! The binary, run to its end.

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use serde_json::Value;

use super::{PATIENCE, POLL, TestServer};

/// What a command came to.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        assert_eq!(
            self.status.code(),
            Some(code),
            "stdout:\n{stdout}\nstderr:\n{stderr}"
        );
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {}\nstderr:\n{}", self.stdout, self.stderr))
    }
}

/// The binary under test, without the tester's configuration.
pub(crate) fn granary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_granary"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GRANARY_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command that is to end by itself; one that does not is killed after [`PATIENCE`].
pub(crate) async fn run(mut command: Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(command.spawn().unwrap()).await
}

/// The same for a command that reads `input`.
pub(crate) async fn run_with_input(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // One that has ended already takes nothing; its code says why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    finish(child).await
}

impl TestServer {
    /// Runs a command that reads `input` on the server's data, whether the server runs or not.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command();
        command.args(arguments).arg("--data").arg(self.data());
        run_with_input(command, input).await
    }
}

async fn finish(mut child: Child) -> Ran {
    let stdout = read_all(child.stdout.take().unwrap());
    let stderr = read_all(child.stderr.take().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            let written = [stdout, stderr].map(|reader| reader.join().unwrap());
            panic!("the command did not end:\n{}", written.concat());
        }
        tokio::time::sleep(POLL).await;
    };
    Ran {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
