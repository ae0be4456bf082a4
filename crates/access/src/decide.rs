//! The decision.

use std::net::IpAddr;

use granary_oci::{RepositoryName, Tag};

use crate::{Principal, Rights, Role, Scopes, TokenAccess, Verb, Verbs, Visibility};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Learn that the registry is there, and that one's credentials are good.
    Ping,
    /// List repositories; the list holds what may be read.
    List,
    /// Read tags, manifests, blobs and referrers.
    Read,
    /// Push blobs, and manifests by digest. Makes the repository if it is not there.
    Push,
    /// Set a tag that does not stand.
    CreateTag(&'a Tag),
    /// Move a tag to another manifest.
    UpdateTag(&'a Tag),
    /// Delete a tag.
    DeleteTag(&'a Tag),
    /// Delete a manifest or a blob by its digest. Each tag that goes with it needs [`Action::DeleteTag`].
    Delete,
    /// Give rights in the repository, change who sees it, and remove it.
    Administer,
    /// Look after a whole namespace: its settings, and grants in it. `rights` are those on all of it.
    Namespace,
    /// Be at least this in an organisation. `rights` are those of its members.
    Organisation(Role),
    /// Act on the principal's own account, such as its tokens.
    OwnAccount,
    /// Look after the installation: users, issuers, the audit log.
    Installation,
}

/// What those get who show no credentials, where there are accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnonymousMode {
    /// Nothing.
    #[default]
    None,
    /// To read what is public.
    Read,
    /// To push to it, too.
    Write,
}

/// What else counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The database's time in microseconds since 1970.
    pub now: i64,
    /// What those get who show no credentials.
    pub anonymous: AnonymousMode,
    /// From where is asked.
    pub address: Option<IpAddr>,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Do not, because of this. What of it a client may learn the edge knows (decision 24).
    Deny(Reason),
}

impl Decision {
    /// Whether to go on.
    pub fn allows(self) -> bool {
        self == Self::Allow
    }
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No credentials were shown, and they are needed.
    NoCredentials,
    /// The credentials were good once: they expired or were withdrawn, or their principal is gone.
    Ended,
    /// The credentials are good, and not from this address.
    Address,
    /// The repository may not even be read.
    Hidden,
    /// The repository is not there, and could be read if it were.
    Missing,
    /// The repository may be read, and this may not be done in it.
    NotGranted,
    /// The principal may, and its credential's scopes do not say so.
    ScopeTooNarrow,
    /// The credential may, and the token made from it does not say so: a wider one would help.
    TokenTooNarrow,
    /// Nobody moves this tag.
    ImmutableTag,
    /// The repository is not there, and may not be made.
    NotCreatable,
}

/// Whether `principal` may do `action` in `repository`, where the action is about one. `rights` are what was read for just
/// these two.
///
/// Deny is the default: what is not said here to be allowed is not.
pub fn decide(
    principal: &Principal,
    action: Action<'_>,
    repository: Option<&RepositoryName>,
    rights: &Rights,
    context: &Context,
) -> Decision {
    match principal {
        Principal::Operator => Decision::Allow,
        Principal::Local => local(action, repository, rights),
        Principal::Anonymous => anonymous(action, repository, rights, context),
        Principal::Known { credential, .. } => {
            let caps = (&credential.scopes, credential.token.as_ref());
            known(action, repository, rights, context, caps)
        }
    }
}

/// Without accounts everybody whom the edge lets in may use the registry. There is nothing else to be done yet.
fn local(action: Action<'_>, repository: Option<&RepositoryName>, rights: &Rights) -> Decision {
    let is_use = match action {
        Action::Ping | Action::List => repository.is_none(),
        Action::Read
        | Action::Push
        | Action::CreateTag(_)
        | Action::UpdateTag(_)
        | Action::DeleteTag(_)
        | Action::Delete => repository.is_some(),
        Action::Administer
        | Action::Namespace
        | Action::Organisation(_)
        | Action::OwnAccount
        | Action::Installation => false,
    };
    match is_use && !rights.accounts {
        true => Decision::Allow,
        false => Decision::Deny(Reason::NoCredentials),
    }
}

fn anonymous(
    action: Action<'_>,
    repository: Option<&RepositoryName>,
    rights: &Rights,
    context: &Context,
) -> Decision {
    if !rights.opens_to(context.address) {
        return Decision::Deny(Reason::NoCredentials);
    }
    let is_public = repository.is_some() && rights.visibility == Visibility::Public;
    let makes = rights.namespace_exists && rights.may_create(Verbs::WRITER);
    let held = match (context.anonymous, is_public, rights.exists) {
        (AnonymousMode::Read, true, true) => Verbs::READ,
        (AnonymousMode::Write, true, true) => Verbs::WRITER,
        // In what is not there is nothing to read or to move.
        (AnonymousMode::Write, true, false) if makes => Verb::Write.into(),
        _ => Verbs::NONE,
    };
    let may = match action {
        Action::List => context.anonymous != AnonymousMode::None,
        Action::Read => held.has(Verb::Read),
        Action::Push | Action::CreateTag(_) => held.has(Verb::Write),
        Action::UpdateTag(tag) => {
            if held.has(Verb::Update) && rights.is_immutable(tag) {
                return Decision::Deny(Reason::ImmutableTag);
            }
            held.has(Verb::Update)
        }
        // Clients show credentials only once they were asked for them (decision 23).
        Action::Ping
        | Action::DeleteTag(_)
        | Action::Delete
        | Action::Administer
        | Action::Namespace
        | Action::Organisation(_)
        | Action::OwnAccount
        | Action::Installation => false,
    };
    match may {
        true => Decision::Allow,
        false => Decision::Deny(Reason::NoCredentials),
    }
}

fn known(
    action: Action<'_>,
    repository: Option<&RepositoryName>,
    rights: &Rights,
    context: &Context,
    (scopes, token): (&Scopes, Option<&TokenAccess>),
) -> Decision {
    if !rights.stands {
        return Decision::Deny(Reason::Ended);
    }
    if !rights.is_usable_from(context.address) {
        return Decision::Deny(Reason::Address);
    }
    let (verb, tag) = match action {
        Action::Ping | Action::List => return Decision::Allow,
        Action::OwnAccount | Action::Installation | Action::Organisation(_) | Action::Namespace => {
            return office(action, rights, context, (scopes, token));
        }
        Action::Read => (Verb::Read, None),
        Action::Push => (Verb::Write, None),
        Action::CreateTag(tag) => (Verb::Write, Some(tag)),
        Action::UpdateTag(tag) => (Verb::Update, Some(tag)),
        Action::DeleteTag(tag) => (Verb::Delete, Some(tag)),
        Action::Delete => (Verb::Delete, None),
        Action::Administer => (Verb::Admin, None),
    };
    if repository.is_none() || !rights.opens_to(context.address) {
        return Decision::Deny(Reason::Hidden);
    }
    let given = rights.held(context.now, tag);
    let scoped = given.within(scopes.verbs(repository, tag));
    let held = match token {
        Some(token) => scoped.within(token.verbs(repository)),
        None => scoped,
    };
    // A credential that may not read there learns no more of it than a stranger.
    let reads = rights
        .held(context.now, None)
        .within(scopes.verbs(repository, None));
    let could_see = reads.has(Verb::Read);
    let sees = could_see && rights.exists;
    let makes = !rights.exists && matches!(action, Action::Push | Action::CreateTag(_));
    let is_there = rights.exists || makes;
    if !is_there || !given.has(verb) {
        return Decision::Deny(match (sees, could_see) {
            (true, _) => Reason::NotGranted,
            (false, true) => Reason::Missing,
            (false, false) => Reason::Hidden,
        });
    }
    if makes && !rights.may_create(given) {
        return Decision::Deny(Reason::NotCreatable);
    }
    let stands_fast = match action {
        Action::UpdateTag(tag) => rights.is_immutable(tag),
        Action::DeleteTag(tag) => rights.is_immutable(tag) && !given.has(Verb::Admin),
        _ => false,
    };
    if stands_fast {
        return Decision::Deny(Reason::ImmutableTag);
    }
    // What the principal may do as an administrator, a credential may that is good for it.
    let takes_admin = matches!(action, Action::DeleteTag(tag) if rights.is_immutable(tag));
    let is_capped = !scoped.has(verb)
        || (takes_admin && !scoped.has(Verb::Admin))
        || (makes && !rights.may_create(scoped));
    if is_capped {
        return Decision::Deny(Reason::ScopeTooNarrow);
    }
    if !held.has(verb) {
        return Decision::Deny(Reason::TokenTooNarrow);
    }
    Decision::Allow
}

/// What is about no repository. A token of the token service speaks of repositories only.
fn office(
    action: Action<'_>,
    rights: &Rights,
    context: &Context,
    (scopes, token): (&Scopes, Option<&TokenAccess>),
) -> Decision {
    let is_somewhere = matches!(action, Action::Organisation(_) | Action::Namespace);
    if is_somewhere && !rights.opens_to(context.address) {
        return Decision::Deny(Reason::Hidden);
    }
    let scope = scopes.verbs(None, None);
    let (holds, scoped) = match action {
        Action::Installation => (rights.is_administrator, scope.has(Verb::Account)),
        Action::Organisation(least) => {
            let is_one = rights.role.is_some_and(|role| role >= least);
            (rights.is_administrator || is_one, scope.has(Verb::Account))
        }
        Action::Namespace => {
            let held = rights.held(context.now, None);
            (held.has(Verb::Admin), scope.has(Verb::Admin))
        }
        _ => (true, scope.has(Verb::Account)),
    };
    // Whoever belongs there in some way may know that it is there.
    let sees = matches!(action, Action::Installation) || rights.role.is_some();
    match (holds, scoped, token) {
        (false, _, _) if sees => Decision::Deny(Reason::NotGranted),
        (false, _, _) => Decision::Deny(Reason::Hidden),
        (true, false, _) => Decision::Deny(Reason::ScopeTooNarrow),
        (true, true, Some(_)) => Decision::Deny(Reason::TokenTooNarrow),
        (true, true, None) if is_somewhere && !rights.exists => Decision::Deny(Reason::Missing),
        (true, true, None) => Decision::Allow,
    }
}
