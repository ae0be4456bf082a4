//! What a process and its descendants used, from `/proc`. Linux only; elsewhere the figures are missing, not wrong.

use std::fs;
use std::io;

use crate::response::malformed;

/// The unit of the times in `/proc/PID/stat`: USER_HZ, which Linux keeps at 100 towards programs whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

struct Stat {
    parent: u32,
    /// User and system time of the process and of its children that have ended.
    ticks: u64,
}

/// CPU seconds spent so far by `root` and all its descendants.
pub(crate) fn cpu_seconds(root: u32) -> io::Result<f64> {
    let mut ticks = read_stat(root)?.ticks;
    for pid in descendants(root)? {
        // One that ends meanwhile has been added to its parent's account.
        ticks += read_stat(pid).map_or(0, |stat| stat.ticks);
    }
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// The largest resident memory since the last reset, added up over `root` and its descendants.
pub(crate) fn peak_resident_bytes(root: u32) -> io::Result<u64> {
    let mut total = 0;
    for pid in with_descendants(root)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        total += peak_in(&status).unwrap_or(0);
    }
    Ok(total)
}

/// Lets the peak start again from the memory resident now. Needs the same user; without that the peak since the start remains.
pub(crate) fn reset_peak(root: u32) -> io::Result<()> {
    for pid in with_descendants(root)? {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    Ok(())
}

fn with_descendants(root: u32) -> io::Result<Vec<u32>> {
    let mut pids = descendants(root)?;
    pids.push(root);
    Ok(pids)
}

fn descendants(root: u32) -> io::Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(stat) = read_stat(pid) {
            parents.push((pid, stat.parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    found.remove(0);
    Ok(found)
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| malformed("/proc/PID/stat has another form"))
}

/// The program's name stands in brackets and may hold anything, so counting starts behind the last bracket, at field 3.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let mut ticks = 0;
    for field in fields.get(11..15)? {
        ticks += field.parse::<u64>().ok()?;
    }
    Some(Stat { parent, ticks })
}

fn peak_in(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_behind_the_programs_name() {
        let text = "12 (a) b) S 7 1 1 0 -1 4194304 9 9 0 0 10 20 3 4 20 0 1 0 100 1000 50";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 37));
        assert!(parse_stat("12 (a) S").is_none());
    }

    #[test]
    fn the_peak_is_in_kibibytes() {
        assert_eq!(
            peak_in("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2_097_152)
        );
        assert_eq!(peak_in("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let own = std::process::id();
        assert!(cpu_seconds(own).unwrap() >= 0.0);
        assert!(peak_resident_bytes(own).unwrap() > 0);
    }
}
