//! Redis.

use std::io::{self, BufRead as _, BufReader, Write as _};

use rustix::process::Signal;

use crate::service::{Plan, Service};
use crate::{TestbedError, http, ports, tools};

/// A Redis server that keeps everything in memory and nothing on the disk.
#[derive(Debug)]
pub struct Redis {
    service: Service,
}

impl Redis {
    /// Starts a server.
    pub fn start() -> Result<Self, TestbedError> {
        let program = tools::find("redis-server")?;
        let service = ports::with_free(|[port]| {
            let mut plan = Plan::new("redis", &[port], |_, ports| {
                ports
                    .first()
                    .is_some_and(|port| ask(*port, "PING").is_ok_and(|answer| answer == "+PONG"))
            })?;
            plan.command([&program]);
            plan.command(["--bind", "127.0.0.1", "--port", &port.to_string()]);
            plan.command(["--save", "", "--appendonly", "no"]);
            Service::start(plan)
        })?;
        Ok(Self { service })
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.service.port()
    }

    /// Forgets all keys.
    pub fn wipe(&self) -> Result<(), TestbedError> {
        self.command("FLUSHALL").map(drop)
    }

    /// Sends one command in the inline form (`"GET name"`) and gives the first line of the answer, its type sign included.
    pub fn command(&self, command: &str) -> Result<String, TestbedError> {
        let answer =
            ask(self.port(), command).map_err(TestbedError::io(format!("redis: {command}")))?;
        if answer.starts_with('-') {
            return Err(tools::refused(command, &answer));
        }
        Ok(answer)
    }

    /// Kills the server; what it knew is lost.
    pub fn stop(&mut self) -> Result<(), TestbedError> {
        self.service.stop(Signal::KILL)
    }

    /// Starts a stopped server, empty, on the same port.
    pub fn start_again(&mut self) -> Result<(), TestbedError> {
        self.service.start_again()
    }
}

fn ask(port: u16, command: &str) -> io::Result<String> {
    let mut stream = http::connect(port)?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}
