//! What an unfinished object's checkpoint says of its parts.
//!
//! ```text
//! 1 byte  version
//! 2 bytes length of the upload id, and the id
//! 4 bytes the first part number that nobody has taken
//! 4 bytes number of parts, and of each part in the order of their numbers:
//!     4 bytes number
//!     8 bytes size
//!     4 bytes CRC-32C
//!     1 byte  length of the ETag, and the ETag; 0: the 16 bytes of an MD5 in quotes follow
//! ```
//!
//! Numbers are little-endian. A part takes 33 bytes with the ETags servers give, so 10,000 parts take 330 KB.

use crc_fast::{CrcAlgorithm, checksum_combine};
use md5::{Digest as _, Md5};

/// The largest part number.
pub(super) const MOST_PARTS: u32 = 10_000;

const VERSION: u8 = 1;

/// A part the server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredPart {
    pub(super) number: u32,
    pub(super) size: u64,
    pub(super) crc: u32,
    pub(super) etag: String,
}

/// A multipart upload that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Multipart {
    pub(super) upload: String,
    /// The first part number that nobody has taken.
    pub(super) free: u32,
    /// The parts that are the object's beginning.
    pub(super) parts: Vec<StoredPart>,
}

/// Notes that this version did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the saved notes on an unfinished object cannot be read")]
pub(super) struct StateError;

impl Multipart {
    /// Bytes in the parts.
    pub(super) fn length(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.size))
    }

    /// The CRC-32C of all parts together.
    pub(super) fn crc(&self) -> u32 {
        let sum = self.parts.iter().fold(0, |sum, part| {
            checksum_combine(CrcAlgorithm::Crc32Iscsi, sum, part.crc.into(), part.size)
        });
        sum as u32
    }

    /// The ETag of the whole object, as most servers make it of those of its parts.
    pub(super) fn etag(&self) -> Option<String> {
        let mut hash = Md5::new();
        for part in &self.parts {
            hash.update(md5(&part.etag)?.to_be_bytes());
        }
        let hash: [u8; 16] = hash.finalize().into();
        let count = self.parts.len();
        Some(format!("\"{:032x}-{count}\"", u128::from_be_bytes(hash)))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(16 + self.upload.len() + self.parts.len() * 34);
        state.push(VERSION);
        state.extend_from_slice(&(self.upload.len() as u16).to_le_bytes());
        state.extend_from_slice(self.upload.as_bytes());
        state.extend_from_slice(&self.free.to_le_bytes());
        state.extend_from_slice(&(self.parts.len() as u32).to_le_bytes());
        for part in &self.parts {
            state.extend_from_slice(&part.number.to_le_bytes());
            state.extend_from_slice(&part.size.to_le_bytes());
            state.extend_from_slice(&part.crc.to_le_bytes());
            match md5(&part.etag) {
                Some(md5) => {
                    state.push(0);
                    state.extend_from_slice(&md5.to_be_bytes());
                }
                None => {
                    state.push(part.etag.len() as u8);
                    state.extend_from_slice(part.etag.as_bytes());
                }
            }
        }
        state
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub(super) fn decode(state: &[u8]) -> Result<Self, StateError> {
        let mut rest = state;
        if number::<1>(&mut rest)? != [VERSION] {
            return Err(StateError);
        }
        let length = u16::from_le_bytes(number(&mut rest)?);
        let upload = text(&mut rest, length.into())?;
        let free = u32::from_le_bytes(number(&mut rest)?);
        let count = u32::from_le_bytes(number(&mut rest)?);
        if upload.is_empty() || free == 0 || free > MOST_PARTS + 1 || count >= free {
            return Err(StateError);
        }
        let mut parts: Vec<StoredPart> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let part = part(&mut rest)?;
            let before = parts.last().map_or(0, |before| before.number);
            if part.number <= before || part.number >= free || part.size == 0 {
                return Err(StateError);
            }
            parts.push(part);
        }
        if rest.is_empty() {
            Ok(Self {
                upload,
                free,
                parts,
            })
        } else {
            Err(StateError)
        }
    }
}

/// Whether the text is short enough to be noted.
pub(super) fn fits_etag(etag: &str) -> bool {
    (1..=usize::from(u8::MAX)).contains(&etag.len())
}

/// Whether the text is short enough to be noted.
pub(super) fn fits_upload(upload: &str) -> bool {
    (1..=usize::from(u16::MAX)).contains(&upload.len())
}

/// The MD5 in an ETag of the usual form.
pub(super) fn md5(etag: &str) -> Option<u128> {
    let digits = etag.strip_prefix('"')?.strip_suffix('"')?;
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 32 || !digits.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok()
}

/// Whether an ETag has the form `"<32 hex>-<number of parts>"`.
pub(super) fn is_joined_etag(etag: &str) -> bool {
    let parts = etag
        .strip_suffix('"')
        .and_then(|etag| etag.rsplit_once('-'));
    parts.is_some_and(|(hash, count)| {
        md5(&format!("{hash}\"")).is_some() && count.parse::<u32>().is_ok()
    })
}

fn part(rest: &mut &[u8]) -> Result<StoredPart, StateError> {
    let part_number = u32::from_le_bytes(number(rest)?);
    let size = u64::from_le_bytes(number(rest)?);
    let crc = u32::from_le_bytes(number(rest)?);
    let [length] = number(rest)?;
    let etag = if length == 0 {
        format!("\"{:032x}\"", u128::from_be_bytes(number(rest)?))
    } else {
        text(rest, length.into())?
    };
    Ok(StoredPart {
        number: part_number,
        size,
        crc,
        etag,
    })
}

fn number<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StateError> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(StateError)?;
    *rest = after;
    Ok(*bytes)
}

fn text(rest: &mut &[u8], length: usize) -> Result<String, StateError> {
    let (bytes, after) = rest.split_at_checked(length).ok_or(StateError)?;
    *rest = after;
    String::from_utf8(bytes.to_vec()).map_err(|_| StateError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(parts: u32) -> Multipart {
        Multipart {
            upload: "2~upload-id".to_owned(),
            free: parts + 1,
            parts: (1..=parts)
                .map(|number| StoredPart {
                    number,
                    size: 8 << 20,
                    crc: number.wrapping_mul(0x9E37_79B9),
                    etag: match number % 3 {
                        0 => "\"not-an-md5\"".to_owned(),
                        _ => format!("\"{number:032x}\""),
                    },
                })
                .collect(),
        }
    }

    #[test]
    fn a_state_reads_back() {
        for parts in [0, 1, 5, MOST_PARTS] {
            let state = sample(parts);
            assert_eq!(Multipart::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn the_sums_of_parts_make_the_sum_of_all() {
        let crc = |bytes: &[u8]| crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        let mut state = sample(3);
        for (part, bytes) in state.parts.iter_mut().zip(["1", "2345", "6789"]) {
            (part.size, part.crc) = (bytes.len() as u64, crc(bytes.as_bytes()));
        }
        assert_eq!(state.crc(), crc(b"123456789"));
    }

    #[test]
    fn the_etags_of_parts_make_the_etag_of_all() {
        let mut state = sample(2);
        for (part, bytes) in state.parts.iter_mut().zip(["a", "b"]) {
            let md5: [u8; 16] = Md5::digest(bytes).into();
            part.etag = format!("\"{:032x}\"", u128::from_be_bytes(md5));
        }
        let etag = state.etag().unwrap();
        assert_eq!(etag, "\"96e024ba2074fe77e8e965ba43a704be-2\"");
        assert!(is_joined_etag(&etag));
        assert!(!is_joined_etag(&state.parts[0].etag));
        assert!(!is_joined_etag("\"-2\""));
        assert_eq!(sample(3).etag(), None);
    }

    #[test]
    fn ten_thousand_parts_stay_small() {
        assert!(sample(MOST_PARTS).encode().len() < 400_000);
    }

    #[test]
    fn anything_else_is_refused() {
        let state = sample(3).encode();
        for end in 0..state.len() {
            assert!(Multipart::decode(&state[..end]).is_err(), "cut at {end}");
        }
        assert!(Multipart::decode(&[state.as_slice(), &[0]].concat()).is_err());
        for place in 0..state.len() {
            let mut other = state.clone();
            other[place] ^= 0xFF;
            // Whatever it is read as, nothing panics.
            let _ = Multipart::decode(&other);
        }
        let mut other = state.clone();
        other[0] = 2;
        assert!(Multipart::decode(&other).is_err());
        let unordered = Multipart {
            parts: sample(3).parts.into_iter().rev().collect(),
            ..sample(3)
        };
        assert!(Multipart::decode(&unordered.encode()).is_err());
        let many = Multipart {
            free: MOST_PARTS + 2,
            ..sample(0)
        };
        assert!(Multipart::decode(&many.encode()).is_err());
    }
}
