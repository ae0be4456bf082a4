//! Hashing whose state survives a restart.

use sha2::{
    Digest as _, Sha256, Sha512,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use crate::{Algorithm, Digest};

/// A saved hash state that cannot be read: it was written by another version or is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved hash state cannot be read")]
pub struct HasherStateError;

/// Hashes a blob while it streams, always with SHA-256 and, when it was named before the bytes, with a second
/// algorithm (decision 4).
///
/// The state can be exported at any offset and taken up again in another process.
#[derive(Clone)]
pub struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hasher {
    /// A hasher for SHA-256 and, if it is another one, for `named`.
    pub fn new(named: Option<Algorithm>) -> Self {
        Self {
            sha256: Sha256::new(),
            sha512: (named == Some(Algorithm::Sha512)).then(Sha512::new),
        }
    }

    /// A hasher for the same algorithms that has seen nothing.
    pub fn fresh(&self) -> Self {
        Self {
            sha256: Sha256::new(),
            sha512: self.sha512.as_ref().map(|_| Sha512::new()),
        }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// The digest of everything so far, or `None` if `algorithm` was not named before the bytes.
    pub fn digest(&self, algorithm: Algorithm) -> Option<Digest> {
        match algorithm {
            Algorithm::Sha256 => Digest::from_hash(algorithm, &self.sha256.clone().finalize()),
            Algorithm::Sha512 => Digest::from_hash(algorithm, &self.sha512.clone()?.finalize()),
        }
    }

    /// The state as bytes: a version byte, then 104 bytes of SHA-256 and, if present, 208 bytes of SHA-512.
    pub fn export(&self) -> Vec<u8> {
        let mut state = vec![VERSION];
        state.extend_from_slice(&self.sha256.serialize());
        if let Some(sha512) = &self.sha512 {
            state.extend_from_slice(&sha512.serialize());
        }
        state
    }

    /// Takes up what [`Hasher::export`] wrote.
    pub fn import(state: &[u8]) -> Result<Self, HasherStateError> {
        let (&VERSION, rest) = state.split_first().ok_or(HasherStateError)? else {
            return Err(HasherStateError);
        };
        let (first, second) = rest
            .split_at_checked(SHA256_STATE)
            .ok_or(HasherStateError)?;
        let sha256 = SerializedState::<Sha256>::try_from(first).map_err(|_| HasherStateError)?;
        let sha256 = Sha256::deserialize(&sha256).map_err(|_| HasherStateError)?;
        let sha512 = if second.is_empty() {
            None
        } else {
            let state =
                SerializedState::<Sha512>::try_from(second).map_err(|_| HasherStateError)?;
            Some(Sha512::deserialize(&state).map_err(|_| HasherStateError)?)
        };
        Ok(Self { sha256, sha512 })
    }
}

const VERSION: u8 = 1;
const SHA256_STATE: usize = size_of::<SerializedState<Sha256>>();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_survives_export_in_the_middle_of_a_block() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8).collect();
        for cut in [0, 1, 63, 64, 65, 127, 128, 129, 999, 1000] {
            let mut first = Hasher::new(Some(Algorithm::Sha512));
            first.update(&bytes[..cut]);
            let mut second = Hasher::import(&first.export()).unwrap();
            second.update(&bytes[cut..]);
            for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
                assert_eq!(
                    second.digest(algorithm),
                    Some(algorithm.digest(&bytes)),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn an_algorithm_not_named_gives_no_digest() {
        assert_eq!(Hasher::new(None).digest(Algorithm::Sha512), None);
    }

    #[test]
    fn damaged_states_are_refused() {
        let state = Hasher::new(None).export();
        assert!(Hasher::import(&[]).is_err());
        assert!(Hasher::import(&state[..state.len() - 1]).is_err());
        assert!(Hasher::import(&[&[9], &state[1..]].concat()).is_err());
    }
}
