//! `granary serve`: opens the stores, wires the rooms together and runs until it is told to stop.

use crate::config::{Anonymous, Config};

/// Runs the registry until SIGTERM or SIGINT. Starts its own runtime.
pub fn serve(config: Config, anonymous: Anonymous) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: {} {anonymous:?}", config.server.listen)
}
