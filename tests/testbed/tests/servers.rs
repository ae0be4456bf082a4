//! Each server starts, answers, stops, comes back and dies with its owner.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use granary_testbed::{
    Minio, Nginx, Postgres, Redis, S3Server, SeaweedFs, StopMode, TestbedError, Toxiproxy,
};
use serde_json::json;

/// Waits for what happens in other processes.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn listens(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[test]
fn postgres_keeps_what_it_acknowledged_over_every_kind_of_stop() {
    let mut server = Postgres::start().unwrap();
    assert_eq!(server.psql("postgres", "SHOW fsync").unwrap(), "on");
    assert_eq!(
        server.psql("postgres", "SHOW max_connections").unwrap(),
        "200"
    );
    server
        .psql("postgres", "CREATE TABLE kept (n int)")
        .unwrap();
    let port = server.port();
    for (count, mode) in [StopMode::Fast, StopMode::Immediate, StopMode::Kill]
        .into_iter()
        .enumerate()
    {
        server
            .psql("postgres", &format!("INSERT INTO kept VALUES ({count})"))
            .unwrap();
        server.stop(mode).unwrap();
        assert!(!listens(&local(port)), "{mode:?}");
        assert!(matches!(
            server.psql("postgres", "SELECT 1"),
            Err(TestbedError::Refused { .. })
        ));
        server.stop(mode).unwrap();
        server.start_again().unwrap();
        assert_eq!(server.port(), port);
        let rows = server
            .psql("postgres", "SELECT count(*) FROM kept")
            .unwrap();
        assert_eq!(rows, (count + 1).to_string(), "{mode:?}");
    }
    drop(server);
    assert!(!listens(&local(port)));
}

#[test]
fn the_shared_postgres_gives_everybody_a_database() {
    let makers: Vec<_> = (0..4)
        .map(|_| thread::spawn(|| Postgres::shared().unwrap().create_database().unwrap()))
        .collect();
    let mut urls: Vec<_> = makers
        .into_iter()
        .map(|maker| maker.join().unwrap())
        .collect();
    urls.sort();
    urls.dedup();
    assert_eq!(urls.len(), 4);
    let server = Postgres::shared().unwrap();
    assert_eq!(server.psql("postgres", "SHOW fsync").unwrap(), "off");
    let (_, name) = urls[0].rsplit_once('/').unwrap();
    assert_eq!(server.url(name), urls[0]);
    assert_eq!(
        server.psql(name, "SELECT current_database()").unwrap(),
        name
    );
    // As people sort: a query that means bytes has to say so.
    let sorted = server.psql(
        name,
        "SELECT string_agg(t, ' ' ORDER BY t) FROM unnest('{B,a,_c}'::text[]) t",
    );
    assert_eq!(sorted.unwrap(), "_c a B");
}

/// Signed by curl, which knows nothing of us.
fn s3(server: &S3Server, secret: &str, arguments: &[&str], path: &str) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--aws-sigv4",
            &format!("aws:amz:{}:s3", server.region()),
        ])
        .args(["--user", &format!("{}:{secret}", server.access_key())])
        .args(["--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        .args(["--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(format!("{}{path}", server.endpoint()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn s3_stores_and_checks_who_asks(mut server: S3Server) {
    let secret = server.secret_key();
    let missing = s3(&server, secret, &["-X", "PUT", "-d", "hello"], "/bucket/a");
    assert!(missing.1.contains("NoSuchBucket"), "{missing:?}");
    assert_eq!(s3(&server, secret, &["-X", "PUT"], "/bucket").0, "200");
    assert_eq!(
        s3(&server, secret, &["-X", "PUT", "-d", "hello"], "/bucket/a").0,
        "200"
    );
    assert_eq!(s3(&server, "wrong", &[], "/bucket/a").0, "403");
    server.stop().unwrap();
    assert!(!listens(&local(server.port())));
    server.start_again().unwrap();
    eventually("the object is served again", || {
        s3(&server, secret, &[], "/bucket/a") == ("200".to_owned(), "hello".to_owned())
    });
}

#[test]
fn minio_stores_and_checks_who_asks() {
    s3_stores_and_checks_who_asks(Minio::start().unwrap());
}

#[test]
fn seaweedfs_stores_and_checks_who_asks() {
    s3_stores_and_checks_who_asks(SeaweedFs::start().unwrap());
}

#[test]
fn shared_s3_servers_are_the_same_for_all() {
    assert_eq!(
        Minio::shared().unwrap().port(),
        Minio::shared().unwrap().port()
    );
    let seaweedfs = SeaweedFs::shared().unwrap();
    // More buckets than SeaweedFS has volumes for unless told.
    for n in 0..20 {
        let bucket = format!("/bucket-{n}");
        assert_eq!(
            s3(seaweedfs, seaweedfs.secret_key(), &["-X", "PUT"], &bucket).0,
            "200"
        );
        let object = format!("{bucket}/a");
        let (status, body) = s3(
            seaweedfs,
            seaweedfs.secret_key(),
            &["-X", "PUT", "-d", "x"],
            &object,
        );
        assert_eq!((status.as_str(), body.as_str()), ("200", ""), "{object}");
    }
}

#[test]
fn redis_forgets_when_told_and_when_killed() {
    let mut server = Redis::start().unwrap();
    assert_eq!(server.url(), format!("redis://{}", local(server.port())));
    for forget in [
        |r: &mut Redis| r.wipe(),
        |r: &mut Redis| r.stop().and_then(|()| r.start_again()),
    ] {
        assert_eq!(server.command("SET a b").unwrap(), "+OK");
        assert_eq!(server.command("EXISTS a").unwrap(), ":1");
        forget(&mut server).unwrap();
        assert_eq!(server.command("EXISTS a").unwrap(), ":0");
    }
    assert!(matches!(
        server.command("NONSENSE"),
        Err(TestbedError::Refused { .. })
    ));
}

#[test]
fn toxiproxy_delays_cuts_and_heals() {
    let redis = Redis::start().unwrap();
    let toxiproxy = Toxiproxy::start().unwrap();
    let proxy = toxiproxy.proxy("redis", local(redis.port())).unwrap();
    let other = toxiproxy.proxy("other", local(redis.port())).unwrap();
    assert_ne!(proxy.listen, other.listen);
    let ping = || {
        let mut stream = TcpStream::connect(proxy.listen).ok()?;
        stream.write_all(b"PING\r\n").ok()?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).ok()?;
        Some(answer == *b"+PONG")
    };
    assert_eq!(ping(), Some(true));

    let latency = json!({"type": "latency", "attributes": {"latency": 300}});
    toxiproxy.toxic(&proxy, &latency).unwrap();
    let since = Instant::now();
    assert_eq!(ping(), Some(true));
    assert!(since.elapsed() >= Duration::from_millis(300));
    toxiproxy.clear(&proxy).unwrap();
    toxiproxy.toxic(&proxy, &latency).unwrap(); // the name is free again
    toxiproxy.clear(&proxy).unwrap();

    toxiproxy.disable(&proxy).unwrap();
    assert_eq!(ping(), None);
    assert!(TcpStream::connect(other.listen).is_ok());
    toxiproxy.enable(&proxy).unwrap();
    assert_eq!(ping(), Some(true));

    let error = toxiproxy
        .toxic(&proxy, &json!({"type": "nonsense"}))
        .unwrap_err();
    assert!(error.to_string().contains("invalid toxic type"), "{error}");
}

/// Answers every request with its name and the head it got.
fn replica(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let mut head = name.to_owned() + "\n";
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let length = head.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn nginx_takes_turns_and_passes_on_who_asked() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nginx = Nginx::start(&[replica("a"), replica("b"), gone]).unwrap();
    let ask = || {
        let mut stream = TcpStream::connect(nginx.address()).unwrap();
        stream
            .write_all(b"GET /v2/%2F HTTP/1.0\r\nHost: example.test:81\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let mut turns = HashMap::new();
    for _ in 0..20 {
        let answer = ask();
        let (name, head) = answer.split_once('\n').unwrap();
        *turns.entry(name.to_owned()).or_insert(0) += 1;
        assert!(head.starts_with("GET /v2/%2F HTTP/1.1\r\n"), "{head}");
        for line in [
            "Host: example.test:81",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Host: example.test:81",
            "X-Forwarded-Proto: http",
        ] {
            assert!(
                head.contains(&format!("\r\n{line}\r\n")),
                "{line} in {head}"
            );
        }
        assert!(!head.contains("Connection: close"), "{head}");
    }
    assert!(turns["a"] >= 8 && turns["b"] >= 8, "{turns:?}");
}

/// A process with all servers, its temporary folders in `folder`, and their ports.
fn owner_of_all(folder: &std::path::Path) -> (Child, Vec<String>) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args([
            "postgres",
            "minio",
            "seaweedfs",
            "redis",
            "toxiproxy",
            "nginx",
        ])
        .env("TMPDIR", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let addresses: Vec<_> = lines
        .take_while(|line| line != "ready")
        .map(|line| {
            let start = line.find("127.0.0.1:").unwrap();
            let end = line[start..]
                .find(['/', ' '])
                .map_or(line.len(), |end| start + end);
            line[start..end].to_owned()
        })
        .collect();
    assert_eq!(addresses.len(), 6);
    (owner, addresses)
}

/// The processes that work in the folder, with their command lines.
fn processes_in(folder: &std::path::Path) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let process = entry.unwrap().path();
            let place = std::fs::read_link(process.join("cwd")).ok()?;
            let inside = place.starts_with(folder);
            inside.then(|| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default())
        })
        .collect()
}

#[test]
fn servers_die_with_their_owner_and_leave_nothing() {
    let folder = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o777))
        .tempdir()
        .unwrap();
    // Others than we may write there: PostgreSQL's watchdog removes its own folder.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    for violently in [true, false] {
        let (mut owner, addresses) = owner_of_all(folder.path());
        assert!(addresses.iter().all(|address| listens(address)));
        assert!(processes_in(folder.path()).len() >= 12); // a server and a watchdog each
        if violently {
            owner.kill().unwrap();
        } else {
            drop(owner.stdin.take());
        }
        owner.wait().unwrap();
        eventually("no port is open", || {
            !addresses.iter().any(|address| listens(address))
        });
        eventually("no process is left", || {
            processes_in(folder.path()).is_empty()
        });
        eventually("no file is left", || {
            folder.path().read_dir().unwrap().next().is_none()
        });
    }
}
