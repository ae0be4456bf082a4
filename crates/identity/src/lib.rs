//! What proves who somebody is: passwords, opaque tokens, tokens of the docker token service, and the keys that sign
//! those.
//!
//! Nothing here asks a database, a network or a clock: whoever calls says what time it is, in seconds since 1970. What
//! a proven principal may do is `granary_access`'s business.

mod authorization;
mod claims;
mod csrf;
mod fingerprint;
mod hasher;
mod jwt;
mod keys;
mod most_used;
pub mod oidc;
mod password;
mod pool;
mod random;
mod ring_provider;
mod scope;
mod sealing;
mod secret;
mod token;

pub use authorization::{parse_basic, parse_bearer};
pub use claims::{TokenClaims, fresh_token_id};
pub use csrf::{csrf_token, is_csrf_token};
pub use fingerprint::Fingerprints;
pub use jwt::{KeyRing, SignError, Signer, TokenRefused, VerifyingKey};
pub use keys::{KeyError, SigningKey, is_signed, jwks};
pub use password::{PasswordRefused, PasswordSettings};
pub use pool::{Passwords, PoolError, Verdict};
pub use random::RandomFailure;
pub use scope::{RequestedScope, format_scope, parse_scopes};
pub use sealing::{InstallationKey, SealError};
pub use secret::Secret;
pub use token::{Token, TokenKind, digest_of, hint, token_kind};
