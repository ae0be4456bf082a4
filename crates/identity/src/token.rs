//! Opaque tokens.
//!
//! ```text
//! grn_t_xuBb2Yd3...Qw1Zt   _0aB9z
//!     │ 38 random letters   CRC-32 of all before it, in 6 letters
//!     └ kind
//! ```
//!
//! A scanner for secrets finds them without asking anybody (`grn_[trs]_[0-9A-Za-z]{44}`), and typing errors show before
//! the catalog is asked.

use crc_fast::CrcAlgorithm;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{RandomFailure, Secret, random};

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// `t`: made by a user, for programs.
    Api,
    /// `r`: given by the token service, to fetch further tokens with.
    Refresh,
    /// `s`: a browser's session, in a cookie.
    Session,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Api => "grn_t_",
            Self::Refresh => "grn_r_",
            Self::Session => "grn_s_",
        }
    }
}

const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// `grn_t_`.
const PREFIX: usize = 6;
/// Random letters: 226 bits.
const RANDOM: usize = 38;
/// Letters of the checksum, which hold 32 bits.
const CHECK: u32 = 6;
/// Bytes of a token.
const LENGTH: usize = PREFIX + RANDOM + CHECK as usize;

/// A token just made. Its text is shown once and kept by nobody here but as [`digest_of`] it.
#[derive(Clone, Debug)]
pub struct Token {
    kind: TokenKind,
    text: Secret,
}

impl Token {
    /// A new token with 226 random bits.
    pub fn generate(kind: TokenKind) -> Result<Self, RandomFailure> {
        let mut text = String::with_capacity(LENGTH);
        text.push_str(kind.prefix());
        while text.len() < PREFIX + RANDOM {
            let missing = PREFIX + RANDOM - text.len();
            let bytes = Zeroizing::new(random::bytes::<64>()?);
            // Two of the 64 values of six bits have no letter and are thrown away: all letters are equally likely.
            let letters = bytes
                .iter()
                .filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
            text.extend(letters.take(missing).copied().map(char::from));
        }
        let check = checksum(&text);
        text.push_str(&check);
        Ok(Self {
            kind,
            text: text.into(),
        })
    }

    /// What it is for.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// Its text.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// Its text, to be handed out.
    pub fn into_text(self) -> Secret {
        self.text
    }
}

/// The kind of the token that `text` is by its form and its checksum; `None` if it is none. That it is alive only the
/// catalog knows.
pub fn token_kind(text: &str) -> Option<TokenKind> {
    let kind = [TokenKind::Api, TokenKind::Refresh, TokenKind::Session]
        .into_iter()
        .find(|kind| text.starts_with(kind.prefix()))?;
    let letters = text.get(PREFIX..)?;
    let is_form = text.len() == LENGTH && letters.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (summed, check) = text.split_at_checked(PREFIX + RANDOM)?;
    (is_form && check == checksum(summed)).then_some(kind)
}

/// What the catalog keeps of a token: SHA-256 of its whole text. For 226 random bits no slow hash is needed.
pub fn digest_of(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The last four characters of a token, by which people tell theirs apart; empty for a text that is none.
pub fn hint(text: &str) -> &str {
    text.len()
        .checked_sub(4)
        .and_then(|at| text.get(at..))
        .unwrap_or_default()
}

/// CRC-32 (ISO-HDLC) of `text` as a number of base 62, the largest place first.
fn checksum(text: &str) -> String {
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, text.as_bytes());
    (0..CHECK)
        .rev()
        .filter_map(|place| ALPHABET.get((crc / 62_u64.pow(place) % 62) as usize))
        .copied()
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by another implementation (Python's zlib).
    const KNOWN: [(&str, TokenKind); 2] = [
        (
            "grn_t_000000000000000000000000000000000000002swN3i",
            TokenKind::Api,
        ),
        (
            "grn_r_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZab2UnCQH",
            TokenKind::Refresh,
        ),
    ];

    #[test]
    fn tokens_have_their_form() {
        for (text, kind) in KNOWN {
            assert_eq!(token_kind(text), Some(kind), "{text}");
        }
        for kind in [TokenKind::Api, TokenKind::Refresh] {
            let one = Token::generate(kind).unwrap();
            let other = Token::generate(kind).unwrap();
            assert_eq!(one.kind(), kind);
            assert_eq!(one.text().expose().len(), LENGTH);
            assert_eq!(token_kind(one.text().expose()), Some(kind));
            assert_ne!(one.text().expose(), other.text().expose());
            assert!(!format!("{one:?}").contains("grn_"));
            assert_eq!(token_kind(one.into_text().expose()), Some(kind));
        }
    }

    #[test]
    fn all_letters_occur() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let token = Token::generate(TokenKind::Api).unwrap();
            seen.extend(token.text().expose()[PREFIX..].bytes());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ALPHABET);
    }

    #[test]
    fn typing_errors_show() {
        let (text, _) = KNOWN[1];
        for at in 0..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(token_kind(str::from_utf8(&wrong).unwrap()), None, "{at}");
            let missing = [&text[..at], &text[at + 1..]].concat();
            assert_eq!(token_kind(&missing), None, "{missing}");
        }
        for at in PREFIX..text.len() - 1 {
            let mut swapped = text.as_bytes().to_vec();
            swapped.swap(at, at + 1);
            assert_eq!(token_kind(str::from_utf8(&swapped).unwrap()), None, "{at}");
        }
        let kind_changed = text.replacen("_r_", "_t_", 1);
        let long = "grn_t_".repeat(1000);
        for wrong in ["", "grn_", "grn_t_", "grn_s_", "ü", &kind_changed, &long] {
            assert_eq!(token_kind(wrong), None, "{wrong}");
        }
        assert_eq!(token_kind(&format!("{text}\n")), None);
        assert_eq!(token_kind(&format!(" {text}")), None);
        // 50 bytes whose places of cutting lie within characters.
        assert_eq!(token_kind(&format!("grn_t_{}", "ü".repeat(22))), None);
    }

    #[test]
    fn the_catalog_keeps_a_hash_and_four_letters() {
        let hash: String = digest_of(KNOWN[0].0)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hash,
            "67bc8151a7e815625617c2586c1bb4f511bb6d379e16467ff02ed26513cf1964"
        );
        assert_eq!(hint(KNOWN[0].0), "wN3i");
        assert_eq!(hint("abc"), "");
        assert_eq!(hint("üü€"), "");
    }
}
