//! Free ports on the loopback interface.

use std::collections::HashSet;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use crate::TestbedError;

/// Below the ports that the system gives to outgoing connections (32768 and up). From those, a client that keeps trying a
/// stopped server would one day get the server's own port and be connected with itself, and the server could not come back.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// How often a start is repeated on other ports when the server ends at once.
const STARTS: usize = 4;

/// Finds a port on which nothing listens now. Another process may take it before the server does: see [`with_free`].
pub fn free() -> Result<u16, TestbedError> {
    let mut last = None;
    for attempt in 0..200 {
        // Each RandomState has keys of its own, so two test processes do not walk the same way.
        let random = RandomState::new().hash_one(attempt);
        let span = u64::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(random % span).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    let source = last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
    Err(TestbedError::io("no free port on 127.0.0.1")(source))
}

/// Calls `start` with `N` different free ports, and with others when the server ended at once, as it does when it lost a port.
pub(crate) fn with_free<const N: usize, T>(
    mut start: impl FnMut([u16; N]) -> Result<T, TestbedError>,
) -> Result<T, TestbedError> {
    let mut attempt = 1;
    loop {
        let mut ports = [0; N];
        for index in 0..N {
            ports[index] = loop {
                let port = free()?;
                if !ports.contains(&port) {
                    break port;
                }
            };
        }
        match start(ports) {
            Err(TestbedError::Ended { .. }) if attempt < STARTS => attempt += 1,
            result => return result,
        }
    }
}

/// Whether process `pid` itself listens on all `ports`: an answer could also come from a stranger that took the port.
pub(crate) fn held_by(pid: &str, ports: &[u16]) -> bool {
    let sockets: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.strip_suffix(']')?.to_owned())
        })
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    ports.iter().all(|port| {
        let mut lines = tables.iter().flat_map(|table| table.lines());
        lines.any(|line| listens(line, *port).is_some_and(|inode| sockets.contains(inode)))
    })
}

/// The inode of a line of `/proc/net/tcp`, when it is a socket that listens on `port`.
fn listens(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let (_, local) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    (state == LISTEN && u16::from_str_radix(local, 16) == Ok(port)).then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_only_what_it_listens_on() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = std::process::id().to_string();
        assert!(held_by(&me, &[port]));
        assert!(!held_by("1", &[port]));
        drop(listener);
        assert!(!held_by(&me, &[port]));
    }

    #[test]
    fn a_start_that_lost_its_port_is_repeated_on_others() {
        let mut seen = Vec::new();
        let ports = with_free(|ports: [u16; 2]| {
            seen.push(ports);
            if seen.len() < 3 {
                return Err(TestbedError::Ended {
                    name: "x",
                    code: String::new(),
                    log: String::new(),
                });
            }
            Ok(ports)
        });
        assert_eq!(seen.len(), 3);
        assert_eq!(ports.unwrap(), seen[2]);
        assert_ne!(seen[2][0], seen[2][1]);
    }
}
