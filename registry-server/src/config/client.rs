//! What the client commands find in the environment.

use std::{ffi::OsString, path::PathBuf};

use granary_identity::Secret;

/// The environment of a client command. An empty variable counts as not set.
#[derive(Debug, Default)]
pub struct ClientEnvironment {
    /// `GRANARY_SERVER`: the server that is meant if no other is named.
    pub server: Option<String>,
    /// `GRANARY_TOKEN`: what is shown instead of what a log-in stored.
    pub token: Option<Secret>,
    /// The folder of what a log-in stores: `$XDG_CONFIG_HOME/granary` or `~/.config/granary`. Without a home there is none.
    pub folder: Option<PathBuf>,
}

impl ClientEnvironment {
    /// Reads it.
    pub fn read() -> Self {
        let text = |name| set(name)?.into_string().ok();
        // A relative path there is to be ignored, says its specification.
        let absolute = |name| {
            set(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        Self {
            server: text("GRANARY_SERVER"),
            // A file's last line break is none of it.
            token: text("GRANARY_TOKEN")
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty())
                .map(Secret::from),
            folder: base.map(|base| base.join("granary")),
        }
    }
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
