//! Who others say somebody is: OpenID Connect as its relying party (Core 1.0, Discovery 1.0, RFC 6749, RFC 7636), the
//! identity tokens of CI systems and clusters, and plain OAuth2 where there is nothing else.
//!
//! All of it is untrusted until its check has passed: an issuer is the one that was configured or none, its keys are
//! looked at before they are kept, and nothing of a token is read before its signature was verified. Nothing here asks
//! a network: `granary_providers` does, and gives what came to the parsers here.

mod claim_rules;
mod flow;
mod foreign_keys;
mod github;
mod id_token;
mod issuer_preset;
mod issuer_url;
mod local_path;
mod metadata;
mod told;

pub use claim_rules::{ClaimPattern, ClaimRuleError, ClaimRules};
pub use flow::{
    AnswerRefused, AuthorizationRequest, ClientAuth, LoginSecrets, Tokens, authorization_url,
    challenge_of, code_request, fresh_secret, user_info,
};
pub use foreign_keys::{ForeignKeys, KeysRefused};
pub use github::{GitHubUser, MOST_TEAMS_OF_PAGE, github_teams};
pub use id_token::{Expected, ForeignClaims, ForeignRefused, named_issuer};
pub use issuer_preset::IssuerPreset;
pub use issuer_url::{IssuerUrl, UrlRefused};
pub use local_path::{ReturnTo, ReturnToError};
pub use metadata::{Metadata, MetadataRefused};
pub use told::told;

/// Most bytes of a document that a provider answers with.
pub const MOST_DOCUMENT: usize = 1024 * 1024;
