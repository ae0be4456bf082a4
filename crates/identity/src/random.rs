//! Bytes that nobody can guess.

use ring::rand::{SecureRandom as _, SystemRandom};

/// The operating system gave no random bytes; nothing that needs them can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct RandomFailure;

/// `N` random bytes of the operating system.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], RandomFailure> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| RandomFailure)?;
    Ok(bytes)
}
