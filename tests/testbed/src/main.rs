//! Starts back ends by hand: `testbed postgres minio` prints where they are and keeps them until its input ends.

use std::any::Any;
use std::io::{self, Write as _};
use std::process::ExitCode;

use granary_testbed::{Minio, Nginx, Patroni, Postgres, Redis, SeaweedFs, TestbedError, Toxiproxy};

const USAGE: &str = "usage: testbed postgres|patroni|minio|seaweedfs|redis|toxiproxy|nginx ...";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell when this fails.
            let _ = writeln!(io::stderr(), "testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), TestbedError> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let mut servers: Vec<Box<dyn Any>> = Vec::new();
    for name in &names {
        let (server, place) = start(name)?;
        say(&format!("{name} {place}"))?;
        servers.push(server);
    }
    say("ready")?;
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(failed("standard input"))?;
    Ok(())
}

fn start(name: &str) -> Result<(Box<dyn Any>, String), TestbedError> {
    Ok(match name {
        "postgres" => {
            let server = Postgres::start()?;
            let url = server.url("postgres");
            (Box::new(server), url)
        }
        "patroni" => {
            let cluster = Patroni::start(3)?;
            let url = format!(
                "postgres://{}@{}/postgres",
                cluster.login(),
                cluster.address()
            );
            (Box::new(cluster), url)
        }
        "minio" | "seaweedfs" => {
            let server = if name == "minio" {
                Minio::start()?
            } else {
                SeaweedFs::start()?
            };
            let place = [&server.endpoint(), server.access_key(), server.secret_key()].join(" ");
            (Box::new(server), place)
        }
        "redis" => {
            let server = Redis::start()?;
            let url = server.url();
            (Box::new(server), url)
        }
        "toxiproxy" => {
            let server = Toxiproxy::start()?;
            let address = server.address().to_string();
            (Box::new(server), address)
        }
        "nginx" => {
            let server = Nginx::start(&[([127, 0, 0, 1], 5000).into()])?;
            let address = server.address().to_string();
            (Box::new(server), address)
        }
        _ => {
            return Err(TestbedError::Refused {
                what: format!("'{name}'"),
                answer: USAGE.to_owned(),
            });
        }
    })
}

fn say(line: &str) -> Result<(), TestbedError> {
    let mut output = io::stdout();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(failed("standard output"))
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> TestbedError {
    let doing = doing.to_owned();
    move |source| TestbedError::Io { doing, source }
}
