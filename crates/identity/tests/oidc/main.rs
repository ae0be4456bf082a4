//! Tokens of other issuers, as attackers would have them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod claims;
mod issuer;
mod signatures;
