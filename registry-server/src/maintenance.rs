//! The commands that look after what is stored.

use crate::{
    cli::{GcArgs, ScrubArgs, WhyArgs},
    config::Config,
};

/// `granary gc`
pub fn gc(config: Config, args: &GcArgs) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: {} {}", config.data.display(), args.dry_run)
}

/// `granary why DIGEST`
pub fn why(config: Config, args: &WhyArgs) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: {} {}", config.data.display(), args.digest)
}

/// `granary scrub`
pub fn scrub(config: Config, args: &ScrubArgs) -> anyhow::Result<()> {
    anyhow::bail!("not built yet: {} {}", config.data.display(), args.rate)
}
