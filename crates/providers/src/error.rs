//! What goes wrong with a provider, for the people who run Granary.

use granary_identity::oidc::{AnswerRefused, ForeignRefused, KeysRefused, MetadataRefused};

use crate::HttpFailure;

/// Why a provider could not be asked, or was not believed. It names the provider and the host, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// A setting is missing or wrong.
    #[error("the identity provider '{provider}' cannot be used: {problem}")]
    Setting {
        /// Its name.
        provider: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A request failed.
    #[error("the identity provider '{provider}' cannot be asked at {host}: {failure}")]
    Http {
        /// Its name.
        provider: String,
        /// The host that was asked.
        host: String,
        /// What happened, and the remedy.
        failure: HttpFailure,
    },
    /// Its discovery document is not believed.
    #[error("the identity provider '{provider}' at {host}: {refused}")]
    Metadata {
        /// Its name.
        provider: String,
        /// The host that answered.
        host: String,
        /// Why.
        refused: MetadataRefused,
    },
    /// Its keys are not used.
    #[error("the keys of the identity provider '{provider}' from {host}: {refused}")]
    Keys {
        /// Its name.
        provider: String,
        /// The host that answered.
        host: String,
        /// Why.
        refused: KeysRefused,
    },
    /// It refused, or answered what is of no use.
    #[error("the identity provider '{provider}' at {host}: {refused}")]
    Answer {
        /// Its name.
        provider: String,
        /// The host that answered.
        host: String,
        /// Why.
        refused: AnswerRefused,
    },
    /// A token of it is not believed.
    #[error("a token of the identity provider '{provider}' is not believed: {refused}")]
    Token {
        /// Its name.
        provider: String,
        /// Why.
        refused: ForeignRefused,
    },
    /// A browser came back from another provider than it was sent to.
    #[error("the answer to a log-in at the identity provider '{provider}' is from another one")]
    MixUp {
        /// The provider to which the browser was sent.
        provider: String,
    },
}
