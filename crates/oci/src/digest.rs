//! Content digests (image-spec `descriptor.md`, "Digests").

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash algorithm that Granary can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256: 32 bytes, 64 hexadecimal characters.
    Sha256,
    /// SHA-512: 64 bytes, 128 hexadecimal characters.
    Sha512,
}

impl Algorithm {
    /// The name used before the colon of a digest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The digest of `bytes` under this algorithm.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hash = [0; 64];
        match self {
            Self::Sha256 => hash[..32].copy_from_slice(&Sha256::digest(bytes)),
            Self::Sha512 => hash.copy_from_slice(&Sha512::digest(bytes)),
        }
        Digest {
            algorithm: self,
            hash,
        }
    }
}

impl FromStr for Algorithm {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(DigestError::Algorithm(excerpt(text))),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is no digest. Each message names the offending value and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// No colon between algorithm and hash.
    #[error("'{0}' is not a digest: write it as sha256:<64 hexadecimal characters>")]
    Form(String),
    /// The algorithm is not one this registry verifies.
    #[error("digest algorithm '{0}' is not supported: use sha256 or sha512")]
    Algorithm(String),
    /// The encoded part has the wrong length or characters.
    #[error(
        "'{value}' is not a {algorithm} digest: it takes exactly {expected} lower-case hexadecimal characters"
    )]
    Encoded {
        /// The offending text, cut to a bounded length.
        value: String,
        /// The algorithm it claims.
        algorithm: Algorithm,
        /// How many characters it must have.
        expected: usize,
    },
}

/// A verified-form content digest: an algorithm and a hash of exactly its length.
///
/// The only ways in are [`FromStr`], [`Digest::from_bytes`] and hashing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// The hash, padded with zeros behind the algorithm's length.
    hash: [u8; 64],
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// A digest from a finished hash; `None` when the length does not fit the algorithm.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Self> {
        let mut padded = [0; 64];
        padded.get_mut(..hash.len())?.copy_from_slice(hash);
        (hash.len() == algorithm.hash_len()).then_some(Self {
            algorithm,
            hash: padded,
        })
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The raw hash, 32 or 64 bytes.
    pub fn hash(&self) -> &[u8] {
        &self.hash[..self.algorithm.hash_len()]
    }

    /// The form kept in the catalog: one byte for the algorithm, then the hash.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.algorithm.hash_len());
        bytes.push(match self.algorithm {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        bytes.extend_from_slice(self.hash());
        bytes
    }

    /// Reads what [`Digest::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, hash) = bytes.split_first()?;
        let algorithm = match tag {
            1 => Algorithm::Sha256,
            2 => Algorithm::Sha512,
            _ => return None,
        };
        Self::from_hash(algorithm, hash)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, encoded) = text
            .split_once(':')
            .ok_or_else(|| DigestError::Form(excerpt(text)))?;
        let algorithm: Algorithm = algorithm.parse()?;
        let length = algorithm.hash_len();
        let wrong = || DigestError::Encoded {
            value: excerpt(text),
            algorithm,
            expected: length * 2,
        };
        if encoded.len() != length * 2 {
            return Err(wrong());
        }
        let mut hash = [0; 64];
        for (byte, pair) in hash.iter_mut().zip(encoded.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (hex_value(pair[0]), hex_value(pair[1])) else {
                return Err(wrong());
            };
            *byte = high << 4 | low;
        }
        Ok(Self { algorithm, hash })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 7 + 128];
        text[..6].copy_from_slice(self.algorithm.as_str().as_bytes());
        text[6] = b':';
        for (pair, byte) in text[7..].chunks_exact_mut(2).zip(self.hash()) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        let used = 7 + self.algorithm.hash_len() * 2;
        f.write_str(std::str::from_utf8(&text[..used]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn hex_value(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

/// At most 160 characters of a hostile text, control characters escaped, for error messages.
pub(crate) fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(160)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(160).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_round_trip() {
        let digest = Digest::sha256(b"{}");
        let text = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
        let long = Algorithm::Sha512.digest(b"{}");
        assert_eq!(long.to_string().parse(), Ok(long));
        assert_eq!(Digest::from_bytes(&long.to_bytes()), Some(long));
        assert_ne!(long.to_bytes(), digest.to_bytes());
    }

    #[test]
    fn hostile_texts_are_refused() {
        let good = Digest::sha256(b"x").to_string();
        for text in [
            "",
            "sha256",
            "sha256:",
            ":",
            "sha256:../../x",
            "sha256:baddigeststring",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &good.to_uppercase(),
            &good[..good.len() - 1],
            &format!("{good}0"),
            &format!("{good}\0"),
            &good.replace(':', ";"),
            &good.replace("sha256", "sha512"),
            &good.replace("sha256:", "sha256:é"),
        ] {
            assert!(
                text.parse::<Digest>().is_err(),
                "{text:?} must not be a digest"
            );
        }
    }
}
