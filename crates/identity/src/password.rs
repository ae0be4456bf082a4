//! What a password must be like.

use zeroize::Zeroizing;

use crate::most_used::MOST_USED;

/// How passwords are hashed, and what new ones must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordSettings {
    /// Memory of argon2id in KiB, 8 to 262,144.
    pub memory_kib: u32,
    /// Passes of argon2id over its memory, 1 to 16.
    pub iterations: u32,
    /// Fewest characters of a new password.
    pub min_length: usize,
}

impl Default for PasswordSettings {
    /// 19 MiB and 2 passes (OWASP's password storage cheat sheet), at least 12 characters.
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            iterations: 2,
            min_length: 12,
        }
    }
}

/// Why a text cannot become a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// It has too few characters.
    #[error("a password needs at least {min} characters")]
    TooShort {
        /// How many it needs.
        min: usize,
    },
    /// It has more than [`PasswordSettings::MOST_BYTES`] bytes.
    #[error("a password may have at most 1024 bytes")]
    TooLong,
    /// It holds a line feed, a tab or another control character, which no form and no header carries reliably.
    #[error("a password may not hold control characters")]
    Control,
    /// It is the user's name, once or repeated.
    #[error("a password may not be made of the user's name alone")]
    Handle,
    /// It is one of those that everybody tries first.
    #[error("this password is one of the most used ones; choose another")]
    MostUsed,
}

impl PasswordSettings {
    /// Most bytes of a password. All of them count.
    pub const MOST_BYTES: usize = 1024;

    /// Whether the user `handle` may take `password` as a new one. Passwords that stand are never checked again.
    pub fn check_new(&self, password: &str, handle: &str) -> Result<(), PasswordRefused> {
        if password.len() > Self::MOST_BYTES {
            return Err(PasswordRefused::TooLong);
        }
        if password.chars().any(char::is_control) {
            return Err(PasswordRefused::Control);
        }
        if password.chars().count() < self.min_length {
            return Err(PasswordRefused::TooShort {
                min: self.min_length,
            });
        }
        let folded = Zeroizing::new(password.to_lowercase());
        if repeats(&folded, &handle.to_lowercase()) {
            return Err(PasswordRefused::Handle);
        }
        if MOST_USED.contains(&folded.as_str()) {
            return Err(PasswordRefused::MostUsed);
        }
        Ok(())
    }
}

/// Whether `password` is `handle` once or several times.
fn repeats(password: &str, handle: &str) -> bool {
    let handle = handle.as_bytes();
    let mut parts = password.as_bytes().chunks(handle.len().max(1));
    parts.all(|part| part == handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), PasswordRefused> {
        PasswordSettings::default().check_new(password, "Alice")
    }

    #[test]
    fn a_good_password_is_taken() {
        for good in [
            "correct horse battery",
            "twelve chars",
            "zwölf Zeiche",
            "alicealice is",
            "alicealiceali",
            &"x".repeat(1024),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_bad_password_is_refused() {
        let (long, wide) = ("x".repeat(1025), "ü".repeat(513));
        for (bad, why) in [
            ("", PasswordRefused::TooShort { min: 12 }),
            ("elevenchars", PasswordRefused::TooShort { min: 12 }),
            ("üüüüüüüüüüü", PasswordRefused::TooShort { min: 12 }),
            (long.as_str(), PasswordRefused::TooLong),
            (wide.as_str(), PasswordRefused::TooLong),
            ("correct\nhorse battery", PasswordRefused::Control),
            ("correct\0horse battery", PasswordRefused::Control),
            ("correct\u{85}horse battery", PasswordRefused::Control),
            ("alicealicealice", PasswordRefused::Handle),
            ("AliceAliceALICE", PasswordRefused::Handle),
            ("passwordpassword", PasswordRefused::MostUsed),
            ("PasswordPassword", PasswordRefused::MostUsed),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn short_ones_of_the_list_count_where_short_ones_are_allowed() {
        let settings = PasswordSettings {
            min_length: 8,
            ..PasswordSettings::default()
        };
        for used in MOST_USED {
            assert!(used.chars().count() >= 8, "{used}");
            assert_eq!(*used, used.to_lowercase());
            let shouted = used.to_uppercase();
            let refused = settings.check_new(&shouted, "alice");
            assert_eq!(refused, Err(PasswordRefused::MostUsed), "{used}");
        }
        assert_eq!(
            settings.check_new("handlehandle", "handle"),
            Err(PasswordRefused::Handle)
        );
        assert_eq!(settings.check_new("handlehandle", ""), Ok(()));
    }
}
