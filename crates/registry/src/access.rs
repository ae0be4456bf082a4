//! What is asked of the one decision function.

pub use granary_access::{Action, Decision, Principal};
use granary_access::{AnonymousMode, Context, Rights};
use granary_oci::RepositoryName;

/// Whether `principal` may do `action`, in `repository` where the action is about one.
///
/// There are no accounts yet, so there is nothing to be read of anybody's rights: whoever is let in may use the registry.
pub fn decide(
    principal: &Principal,
    action: Action<'_>,
    repository: Option<&RepositoryName>,
) -> Decision {
    let context = Context {
        now: 0,
        anonymous: AnonymousMode::None,
    };
    granary_access::decide(principal, action, repository, &Rights::default(), &context)
}
