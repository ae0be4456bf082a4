//! Where programs are, and as whom they run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::TestbedError;

/// Finds a program in PATH, in the folders that Debian keeps out of PATH, and among the tools of `conformance/tools.sh`.
pub(crate) fn find(program: &str) -> Result<PathBuf, TestbedError> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/bin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(newest_first("/usr/lib/postgresql", |_| true, "bin"))
        .chain(installed(program))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| TestbedError::Missing {
            program: program.to_owned(),
        })
}

/// The folders of the tool, `NAME@VERSION` and its `bin`, the newest first.
fn installed(program: &str) -> impl Iterator<Item = PathBuf> {
    let tools = env::var_os("GRANARY_TOOLS").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/granary/tools"),
        PathBuf::from,
    );
    let prefix = format!("{program}@");
    newest_first(tools, |name| name.starts_with(&prefix), "")
        .into_iter()
        .flat_map(|folder| [folder.clone(), folder.join("bin")])
}

fn newest_first(
    parent: impl AsRef<Path>,
    wanted: impl Fn(&str) -> bool,
    inside: &str,
) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| {
            let changed = entry.metadata().and_then(|data| data.modified()).ok();
            (changed, entry.path().join(inside))
        })
        .collect();
    folders.sort();
    folders.into_iter().rev().map(|(_, path)| path).collect()
}

/// A user of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// The user `name` when we are root, and nobody else otherwise: PostgreSQL refuses to run as root.
    pub(crate) fn instead_of_root(name: &str) -> Result<Option<Self>, TestbedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let id = |option| {
            let output = run(Command::new("id").args([option, name]))?;
            output
                .trim()
                .parse()
                .map_err(|_| refused(&format!("id {option} {name}"), &output))
        };
        Ok(Some(Self {
            uid: id("-u")?,
            gid: id("-g")?,
        }))
    }
}

/// Runs a command to its end and gives what it wrote.
pub(crate) fn run(command: &mut Command) -> Result<String, TestbedError> {
    let output = command
        .output()
        .map_err(TestbedError::io(format!("{command:?}")))?;
    if !output.status.success() {
        return Err(refused(
            &format!("{command:?}"),
            &String::from_utf8_lossy(&output.stderr),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn refused(what: &str, answer: &str) -> TestbedError {
    TestbedError::Refused {
        what: what.to_owned(),
        answer: answer.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let error = find("no-such-server").unwrap_err().to_string();
        assert!(
            error.contains("`no-such-server` is neither in PATH"),
            "{error}"
        );
        assert!(
            error.contains("`conformance/tools.sh no-such-server` installs it"),
            "{error}"
        );
    }

    #[test]
    fn the_newest_of_several_installed_versions_comes_first() {
        let tools = tempfile::tempdir().unwrap();
        for name in ["a@2", "b@9", "a@1"] {
            let folder = tools.path().join(name);
            fs::create_dir(&folder).unwrap();
        }
        let old = fs::File::open(tools.path().join("a@2")).unwrap();
        old.set_modified(std::time::UNIX_EPOCH).unwrap();
        let found = newest_first(tools.path(), |name| name.starts_with("a@"), "bin");
        assert_eq!(
            found,
            ["a@1", "a@2"].map(|n| tools.path().join(n).join("bin"))
        );
    }
}
