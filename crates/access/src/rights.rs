//! What a principal was given in one repository.

use std::{net::IpAddr, sync::Arc};

use granary_oci::Tag;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{AddressBlocks, TagPatterns, Verb, Verbs};

/// Who sees a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Those who were given something in it.
    #[default]
    Private,
    /// Everybody who may ask at all.
    Public,
}

/// What a member is in an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// One of its people; what he may do he is granted, or his teams are.
    Member,
    /// Reads everything of it.
    Read,
    /// Reads and pushes everything of it, and moves tags.
    Write,
    /// Does everything in its repositories, and looks after its members.
    Admin,
    /// The same, and makes owners.
    Owner,
}

impl Role {
    /// What it gives in every repository of the organisation.
    pub fn verbs(self) -> Verbs {
        match self {
            Self::Member => Verbs::NONE,
            Self::Read => Verbs::READ,
            Self::Write => Verbs::WRITER,
            Self::Admin | Self::Owner => Verbs::EVERYTHING,
        }
    }
}

/// Who may make repositories in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CreateBy {
    /// Whoever may write to one of that name.
    #[default]
    Writers,
    /// Whoever administers the namespace.
    Administrators,
}

/// Verbs that were given where this repository is one of those meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub verbs: Verbs,
    /// On which tags, where the question is about one.
    pub tags: TagPatterns,
    /// Until when, in microseconds since 1970.
    pub ends_at: Option<i64>,
}

/// What the catalog says of one principal in one repository, which need not exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Whether there are accounts at all.
    pub accounts: bool,
    /// Whether the principal is active, and what proved it is neither withdrawn nor expired. Of nobody in particular, no.
    pub stands: bool,
    /// Whether the repository exists.
    pub exists: bool,
    /// Whether its namespace exists.
    pub namespace_exists: bool,
    /// Who sees it; of one that does not exist, who would.
    pub visibility: Visibility,
    /// The principal administers the installation.
    pub is_administrator: bool,
    /// The namespace is the principal's own, or would be if it existed.
    pub is_own: bool,
    /// What the principal is in the organisation that owns the namespace.
    pub role: Option<Role>,
    /// Grants to it, and to teams of it, whose pattern the repository matches.
    pub grants: Arc<[Grant]>,
    /// Who may make repositories there.
    pub create_by: CreateBy,
    /// Tags that nobody moves.
    pub immutable: Option<TagPatterns>,
    /// From where the principal and its credential may be used, if not from everywhere: one list of each that has one.
    pub usable_from: Arc<[AddressBlocks]>,
    /// From where the namespaces of the organisation that owns this one may be used, if not from everywhere.
    pub open_to: Option<AddressBlocks>,
}

impl Rights {
    /// Everything that was given, at `now`; on `tag` if the question is about one. Without credentials a public repository
    /// is not looked at here.
    pub(crate) fn held(&self, now: i64, tag: Option<&Tag>) -> Verbs {
        if self.is_administrator || self.is_own {
            return Verbs::EVERYTHING;
        }
        let public = match self.exists && self.visibility == Visibility::Public {
            true => Verbs::READ,
            false => Verbs::NONE,
        };
        let role = self.role.map_or(Verbs::NONE, Role::verbs);
        self.grants
            .iter()
            .filter(|grant| grant.ends_at.is_none_or(|end| now < end))
            .map(|grant| grant.tags.limit(grant.verbs, tag))
            .fold(public.and(role), Verbs::and)
    }

    /// Whether the repository is there and may be read, at `now`, by what was given.
    pub fn shows(&self, now: i64) -> bool {
        self.exists && self.held(now, None).has(Verb::Read)
    }

    /// Whether what is asked for is open to that address at all.
    pub(crate) fn opens_to(&self, address: Option<IpAddr>) -> bool {
        self.open_to
            .as_ref()
            .is_none_or(|blocks| blocks.contain(address))
    }

    /// Whether the principal may be at that address.
    pub(crate) fn is_usable_from(&self, address: Option<IpAddr>) -> bool {
        self.usable_from
            .iter()
            .all(|blocks| blocks.contain(address))
    }

    /// Whether nobody moves `tag`.
    pub(crate) fn is_immutable(&self, tag: &Tag) -> bool {
        self.immutable
            .as_ref()
            .is_some_and(|patterns| patterns.matches(tag))
    }

    /// Whether whoever holds `held` may make the repository.
    pub(crate) fn may_create(&self, held: Verbs) -> bool {
        match (self.namespace_exists, self.create_by) {
            (false, _) => self.is_administrator || self.is_own,
            (true, CreateBy::Writers) => held.has(Verb::Write),
            (true, CreateBy::Administrators) => held.has(Verb::Admin),
        }
    }
}
