//! What can go wrong while a server starts or stops.

use std::io;
use std::time::Duration;

/// Why a back end could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    /// The program is not on this machine.
    #[error(
        "`{program}` is neither in PATH nor among the installed tools: `conformance/tools.sh {program}` installs it"
    )]
    Missing {
        /// The name of the program.
        program: String,
    },
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server ended while it was being started.
    #[error("{name} ended with code {code} while starting; the end of its log:\n{log}")]
    Ended {
        /// The server.
        name: &'static str,
        /// Its exit code; 128 and more for a signal.
        code: String,
        /// The end of what it wrote.
        log: String,
    },
    /// The server runs but did not get where it should in time.
    #[error("{name} did not {what} within {within:?}; the end of its log:\n{log}")]
    Late {
        /// The server.
        name: &'static str,
        /// What was waited for.
        what: &'static str,
        /// How long.
        within: Duration,
        /// The end of what it wrote.
        log: String,
    },
    /// A request or a command was answered with a refusal.
    #[error("{what} was refused: {answer}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        answer: String,
    },
}

impl TestbedError {
    /// Says what was tried when the system refused it.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
