//! argon2id (RFC 9106), and the PHC strings that hold its results.

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        self,
        phc::{self, Output, ParamsString, PasswordHash, Salt},
    },
};
use zeroize::Zeroizing;

use crate::{PasswordSettings, RandomFailure, Secret, Verdict, random};

/// Most memory that a hash may ask for, in KiB: 256 MiB.
const MOST_MEMORY: u32 = 256 * 1024;
/// Most passes that a hash may ask for.
const MOST_ITERATIONS: u32 = 16;
/// Most lanes that a hash may ask for; they are computed one after the other.
const MOST_LANES: u32 = 4;

/// Why nothing could be hashed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    #[error(transparent)]
    Argon2(#[from] argon2::Error),
    #[error(transparent)]
    PasswordHash(#[from] password_hash::Error),
    #[error(transparent)]
    Phc(#[from] phc::Error),
    #[error(transparent)]
    Random(#[from] RandomFailure),
    #[error("the hash has no salt or no output")]
    Incomplete,
    #[error("the hash asks for more than 256 MiB, 16 passes or 4 lanes")]
    Excessive,
}

/// Hashes passwords, one at a time, in memory that it keeps.
pub(crate) struct Hasher {
    params: Params,
    /// A hash that costs the same as one of a user.
    nobody: PasswordHash,
    /// Allocated at first use: an installation without passwords needs none.
    memory: Vec<Block>,
}

impl Hasher {
    /// A hasher; an error says that argon2 cannot work by these settings.
    pub(crate) fn new(settings: &PasswordSettings) -> Result<Self, HashError> {
        let length = Some(Params::DEFAULT_OUTPUT_LEN);
        let params = Params::new(settings.memory_kib, settings.iterations, 1, length)?;
        check_bounds(&params)?;
        let salt = Salt::new(&[0; Salt::RECOMMENDED_LENGTH])?;
        let output = Output::new(&[0; Params::DEFAULT_OUTPUT_LEN])?;
        let nobody = phc_string(&params, salt, output)?;
        Ok(Self {
            params,
            nobody,
            memory: Vec::new(),
        })
    }

    /// The PHC string of `password` under a fresh salt.
    pub(crate) fn hash(&mut self, password: &Secret) -> Result<String, HashError> {
        let salt = Salt::new(&random::bytes::<{ Salt::RECOMMENDED_LENGTH }>()?)?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params.clone());
        let output = self.output(&argon2, password, &salt, Params::DEFAULT_OUTPUT_LEN)?;
        Ok(phc_string(&self.params, salt, output)?.to_string())
    }

    /// Whether `phc` was made from `password`. Without a hash the same work is done in vain.
    pub(crate) fn verify(
        &mut self,
        password: &Secret,
        phc: Option<&str>,
    ) -> Result<Verdict, HashError> {
        let kept = match phc {
            Some(phc) => PasswordHash::new(phc)?,
            None => self.nobody.clone(),
        };
        let (Some(salt), Some(expected)) = (kept.salt, kept.hash) else {
            return Err(HashError::Incomplete);
        };
        let algorithm = Algorithm::new(kept.algorithm.as_str())?;
        let version = match kept.version {
            Some(version) => Version::try_from(version)?,
            None => Version::default(),
        };
        let params = Params::try_from(&kept)?;
        check_bounds(&params)?;
        let is_as_set =
            (algorithm, version) == (Algorithm::Argon2id, Version::V0x13) && params == self.params;
        let argon2 = Argon2::new(algorithm, version, params);
        let output = self.output(&argon2, password, &salt, expected.len())?;
        // `Output` compares in constant time.
        let is_right = output == expected && phc.is_some();
        Ok(match (is_right, is_as_set) {
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButWeak,
            (false, _) => Verdict::Wrong,
        })
    }

    /// `length` bytes of argon2.
    fn output(
        &mut self,
        argon2: &Argon2<'_>,
        password: &Secret,
        salt: &Salt,
        length: usize,
    ) -> Result<Output, HashError> {
        let password = password.expose().as_bytes();
        let mut bytes = Zeroizing::new([0_u8; Output::MAX_LENGTH]);
        let output = bytes.get_mut(..length).ok_or(HashError::Incomplete)?;
        if argon2.params().block_count() > self.params.block_count() {
            // It was made when the settings gave more: its memory is given back.
            argon2.hash_password_into(password, salt, output)?;
        } else {
            argon2.hash_password_into_with_memory(password, salt, output, self.memory()?)?;
        }
        Ok(Output::new(output)?)
    }

    /// As much memory as the settings need.
    fn memory(&mut self) -> Result<&mut [Block], HashError> {
        let blocks = self.params.block_count();
        self.memory
            .try_reserve_exact(blocks.saturating_sub(self.memory.len()))
            .map_err(|_| argon2::Error::OutOfMemory)?;
        self.memory.resize(blocks, Block::new());
        Ok(self.memory.as_mut_slice())
    }
}

/// Whoever can write into the catalog must not be able to keep the threads busy or to use up the memory.
fn check_bounds(params: &Params) -> Result<(), HashError> {
    let is_bounded = params.m_cost() <= MOST_MEMORY
        && params.t_cost() <= MOST_ITERATIONS
        && params.p_cost() <= MOST_LANES;
    match is_bounded {
        true => Ok(()),
        false => Err(HashError::Excessive),
    }
}

fn phc_string(params: &Params, salt: Salt, output: Output) -> Result<PasswordHash, HashError> {
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(salt),
        hash: Some(output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both made by another implementation (OpenSSL) from [`PASSWORD`].
    const CHEAP: &str =
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$kQd08M5g5C17otqs6kzQgK0YuRD2niM7eevWQKwwoj4";
    const DEARER: &str =
        "$argon2id$v=19$m=64,t=3,p=2$c2FsdHNhbHQ$4lS9ZFDCwubb5B9Gz563Y2TKGrMibXfk5S/+pqHWtVQ";
    const PASSWORD: &str = "correct horse battery";

    fn hasher(memory_kib: u32, iterations: u32) -> Hasher {
        let settings = PasswordSettings {
            memory_kib,
            iterations,
            min_length: 12,
        };
        Hasher::new(&settings).unwrap()
    }

    fn secret(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn what_was_hashed_verifies() {
        let mut hasher = hasher(8, 1);
        let (one, other) = (secret(PASSWORD), secret("another password"));
        let phc = hasher.hash(&one).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{phc}");
        assert_eq!(hasher.verify(&one, Some(&phc)).unwrap(), Verdict::Right);
        assert_eq!(hasher.verify(&other, Some(&phc)).unwrap(), Verdict::Wrong);
        assert_ne!(hasher.hash(&one).unwrap(), phc, "salts are fresh");
    }

    #[test]
    fn all_of_a_long_password_counts() {
        let mut hasher = hasher(8, 1);
        let phc = hasher.hash(&secret(&"x".repeat(1024))).unwrap();
        let shorter = secret(&"x".repeat(1023));
        assert_eq!(hasher.verify(&shorter, Some(&phc)).unwrap(), Verdict::Wrong);
    }

    #[test]
    fn hashes_of_others_and_of_older_settings_verify() {
        for (memory, iterations, cheap, dearer) in [
            (8, 1, Verdict::Right, Verdict::RightButWeak),
            (64, 3, Verdict::RightButWeak, Verdict::RightButWeak),
            (128, 1, Verdict::RightButWeak, Verdict::RightButWeak),
        ] {
            let mut hasher = hasher(memory, iterations);
            // Twice, because the second time finds the memory used.
            for _ in 0..2 {
                let right = secret(PASSWORD);
                assert_eq!(hasher.verify(&right, Some(CHEAP)).unwrap(), cheap);
                assert_eq!(hasher.verify(&right, Some(DEARER)).unwrap(), dearer);
                let wrong = secret("correct horse batterie");
                assert_eq!(hasher.verify(&wrong, Some(CHEAP)).unwrap(), Verdict::Wrong);
                assert_eq!(hasher.verify(&wrong, Some(DEARER)).unwrap(), Verdict::Wrong);
            }
        }
    }

    #[test]
    fn nobody_has_no_password() {
        let mut hasher = hasher(8, 1);
        for text in ["", PASSWORD, "\0"] {
            let verdict = hasher.verify(&secret(text), None).unwrap();
            assert_eq!(verdict, Verdict::Wrong, "{text:?}");
        }
        let nobody = hasher.nobody.to_string();
        assert!(
            nobody.starts_with("$argon2id$v=19$m=8,t=1,p=1$"),
            "{nobody}"
        );
    }

    #[test]
    fn a_hash_that_asks_for_too_much_is_refused() {
        let rest = "$c2FsdHNhbHQ$kQd08M5g5C17otqs6kzQgK0YuRD2niM7eevWQKwwoj4";
        for params in [
            "m=262145,t=1,p=1",
            "m=4294967295,t=1,p=1",
            "m=8,t=17,p=1",
            "m=8,t=4294967295,p=1",
            "m=64,t=1,p=5",
        ] {
            let phc = format!("$argon2id$v=19${params}{rest}");
            let refused = hasher(8, 1).verify(&secret(PASSWORD), Some(&phc));
            assert!(matches!(refused, Err(HashError::Excessive)), "{phc}");
        }
    }

    #[test]
    fn what_is_no_hash_is_an_error() {
        for phc in [
            "",
            "secret",
            "$",
            "$argon2id$v=19$m=8,t=1,p=1",
            "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ",
            "$argon2id$v=20$m=8,t=1,p=1$c2FsdHNhbHQ$kQd08M5g5C17otqs6kzQgK0YuRD2niM7eevWQKwwoj4",
            "$argon2id$v=19$m=7,t=1,p=1$c2FsdHNhbHQ$kQd08M5g5C17otqs6kzQgK0YuRD2niM7eevWQKwwoj4",
            "$scrypt$ln=1,r=1,p=1$c2FsdHNhbHQ$kQd08M5g5C17otqs6kzQgK0YuRD2niM7eevWQKwwoj4",
        ] {
            let refused = hasher(8, 1).verify(&secret(PASSWORD), Some(phc));
            assert!(refused.is_err(), "{phc}");
        }
        let more = &format!("{CHEAP}$more");
        assert!(hasher(8, 1).verify(&secret(PASSWORD), Some(more)).is_err());
    }

    #[test]
    fn settings_that_argon2_cannot_work_by_are_refused() {
        for (memory_kib, iterations) in [(7, 1), (8, 0), (262_145, 1), (8, 17)] {
            let settings = PasswordSettings {
                memory_kib,
                iterations,
                min_length: 12,
            };
            assert!(Hasher::new(&settings).is_err(), "{settings:?}");
        }
    }
}
