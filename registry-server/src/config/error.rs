//! What can be wrong with a configuration.

use std::{fmt, io, path::PathBuf};

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// Why there is no configuration. The text is for the person who wrote it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}; give --config the path of a readable TOML file", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: this is not TOML: {problem}")]
    Syntax {
        /// The file and line.
        origin: Origin,
        /// What the parser says.
        problem: String,
    },
    /// A value or a key does not fit; `problem` includes the remedy.
    #[error("{origin}: {key}: {problem}")]
    Key {
        /// Where it stands.
        origin: Origin,
        /// The key, `section.key`.
        key: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// The data folder's name cannot be written into a database URL.
    #[error("--data: \"{}\" is not valid UTF-8; choose another folder", data.display())]
    Data {
        /// The folder.
        data: PathBuf,
    },
    /// A value cannot be shown.
    #[error("the configuration cannot be shown: {0}")]
    Show(String),
}
