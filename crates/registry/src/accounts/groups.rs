//! Organisations and teams, and who belongs to them.

use granary_access::{AddressBlocks, Caller, Handle, Role, TeamHandle, TeamRole};
use granary_catalog::{Decided, Outcome, Refusal, StoredMember, StoredOrganisation, StoredTeam};
use serde::Serialize;
use utoipa::ToSchema;

use super::AccountsError;
use crate::{
    Installation, Leave, OrganisationAdmin, OrganisationMember, OrganisationOwner, OwnAccount,
    Registry, Sphere, TeamMaintainer, leave::done,
};

/// Most entries of a page of a list.
const MOST_LISTED: u64 = 1000;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries behind this one: `next` of the page before.
    pub after: String,
    /// Most entries.
    pub limit: u64,
}

impl PageRequest {
    /// The page behind `after`, as long as one may be.
    pub fn longest(after: String) -> Self {
        Self {
            after,
            limit: MOST_LISTED,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.limit.clamp(1, MOST_LISTED)
    }
}

/// A part of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T> {
    /// Its entries, in their order.
    pub entries: Vec<T>,
    /// What the page behind this one is asked for by, if there is one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Of rows, one more than asked for if there are more.
    pub(super) fn of<R>(
        mut rows: Vec<R>,
        size: u64,
        key: impl Fn(&R) -> String,
        entry: impl Fn(R) -> T,
    ) -> Self {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let is_more = rows.len() > size;
        rows.truncate(size);
        let next = rows.last().filter(|_| is_more).map(key);
        let entries = rows.into_iter().map(entry).collect();
        Self { entries, next }
    }
}

/// An organisation, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct OrganisationReport {
    /// Its name.
    pub organisation: String,
    /// What whoever asks is in it.
    pub role: Option<Role>,
    /// From where its namespaces may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
}

impl From<StoredOrganisation> for OrganisationReport {
    fn from(stored: StoredOrganisation) -> Self {
        Self {
            organisation: stored.name,
            role: stored.role,
            addresses: stored.addresses,
            created_at: stored.created_at,
        }
    }
}

/// A team, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TeamReport {
    /// Its name, with that of its organisation.
    pub team: String,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
}

impl From<StoredTeam> for TeamReport {
    fn from(stored: StoredTeam) -> Self {
        Self {
            team: stored.name,
            created_at: stored.created_at,
        }
    }
}

/// What somebody is in an organisation, for people and programs; one line for each who said so.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MemberReport {
    /// His name.
    pub member: String,
    /// Whether it is a robot.
    pub robot: bool,
    /// What he is.
    pub role: Role,
    /// Empty if somebody said so, else the issuer whose groups did.
    pub source: String,
    /// Since when.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub since: i64,
}

impl From<StoredMember> for MemberReport {
    fn from(stored: StoredMember) -> Self {
        Self {
            member: stored.name,
            robot: stored.is_robot,
            role: stored.role,
            source: stored.source,
            since: stored.since,
        }
    }
}

/// What somebody is in a team, for people and programs; one line for each who said so.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TeamMemberReport {
    /// His name.
    pub member: String,
    /// Whether it is a robot.
    pub robot: bool,
    /// What he is.
    pub role: TeamRole,
    /// Empty if somebody said so, else the issuer whose groups did.
    pub source: String,
    /// Since when.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub since: i64,
}

impl From<StoredMember> for TeamMemberReport {
    fn from(stored: StoredMember) -> Self {
        Self {
            member: stored.name,
            robot: stored.is_robot,
            role: match stored.role >= Role::Admin {
                true => TeamRole::Maintainer,
                false => TeamRole::Member,
            },
            source: stored.source,
            since: stored.since,
        }
    }
}

/// What was done, or the error of what was denied or refused where it was to be made.
pub(super) fn settled<T>(decided: Decided<Outcome<T>>) -> Result<T, AccountsError> {
    done(decided)?.map_err(AccountsError::from)
}

impl From<Refusal> for AccountsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Taken(name) => Self::Taken(name),
            Refusal::NamespaceTaken(name) => Self::NamespaceTaken(name),
            Refusal::NoSuch(name) => Self::NoSuch(name),
            Refusal::NoMember(member, group) => Self::NoMember(member, group),
            Refusal::Foreign(name) => Self::Foreign(name),
            Refusal::LastOwner(organisation) => Self::LastOwner(organisation),
            Refusal::OwnersOnly => Self::OwnersOnly,
            Refusal::NotForRobots => Self::NotForRobots,
            Refusal::HasRepositories(namespace) => Self::HasRepositories(namespace),
            Refusal::Full(most) => Self::Full(most),
            Refusal::OldReplica(version) => Self::IgnoresAddresses(version),
            Refusal::NoNamespace => Self::NoNamespace,
            Refusal::ShutsOut(address) => Self::ShutsOut(address),
            Refusal::HasSuccessor { successor, ends_at } => Self::HasSuccessor {
                successor: successor.0,
                end: super::time::end(ends_at),
            },
        }
    }
}

impl Leave<Installation> {
    /// Makes an organisation with its first owner, a user, and says whether a namespace of its name was there, which is its own
    /// now.
    pub async fn create_organisation(
        &self,
        organisation: &str,
        owner: &str,
    ) -> Result<bool, AccountsError> {
        let handle: Handle = organisation.parse()?;
        let catalog = &self.parts().catalog;
        let making = catalog.create_organisation(self.authority(), handle, owner.to_owned());
        Ok(settled(making.await?)?.took_over)
    }

    /// All organisations, by their names.
    pub async fn organisations(
        &self,
        page: PageRequest,
    ) -> Result<Page<OrganisationReport>, AccountsError> {
        let size = page.size();
        let listing = self
            .parts()
            .catalog
            .organisations(None, true, &[], &page.after, size + 1);
        let key = |row: &StoredOrganisation| row.name.clone();
        Ok(Page::of(listing.await?, size, key, Into::into))
    }

    /// Says from where a user or robot may be used, or the namespaces of an organisation; from everywhere without a list.
    pub async fn set_addresses(
        &self,
        name: &str,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        self.admit_from(name, addresses).await
    }
}

impl Leave<OwnAccount> {
    /// The organisations that one belongs to, by their names; all of them for who administers the installation. One that is not open to the address at hand looks as if it were
    /// not there.
    pub async fn organisations(
        &self,
        page: PageRequest,
    ) -> Result<Page<OrganisationReport>, AccountsError> {
        let (size, own) = (page.size(), self.own_id()?);
        let catalog = &self.parts().catalog;
        let own_row = catalog.user(own).await?;
        let all = own_row.is_some_and(|user| user.is_administrator);
        let address = self.authority().asker.origin.address;
        let closed = catalog.closed_organisations(address).await?;
        let listing = catalog.organisations(Some(own), all, &closed, &page.after, size + 1);
        let key = |row: &StoredOrganisation| row.name.clone();
        Ok(Page::of(listing.await?, size, key, Into::into))
    }

    /// Says from where one may be used oneself.
    pub async fn set_addresses(
        &self,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        let name = self.principal().name().to_owned();
        self.admit_from(&name, addresses).await
    }
}

impl<S> Leave<S> {
    pub(super) async fn admit_from(
        &self,
        name: &str,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        let setting = catalog.set_addresses(self.authority(), name, addresses);
        settled(setting.await?)
    }

    async fn put_member(&self, member: &str, role: Role) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        let setting = catalog.set_member(self.authority(), self.of(), member.to_owned(), role);
        settled(setting.await?)
    }

    async fn drop_member(&self, member: &str) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        let removing = catalog.remove_member(self.authority(), self.of(), member.to_owned());
        settled(removing.await?)
    }

    async fn rows_of_members(
        &self,
        group: &str,
        page: &PageRequest,
    ) -> Result<Vec<StoredMember>, AccountsError> {
        let behind = page.after.split_once('|').unwrap_or((&page.after, ""));
        let listing = self.parts().catalog.members(group, behind, page.size() + 1);
        Ok(listing.await?)
    }

    fn handle_of(&self, name: &str) -> Result<TeamHandle, AccountsError> {
        Ok(TeamHandle::of(self.of(), name)?)
    }
}

/// Where a page of members ends.
fn place(row: &StoredMember) -> String {
    format!("{}|{}", row.name, row.source)
}

impl Leave<OrganisationMember> {
    /// How the organisation is.
    pub async fn organisation(&self) -> Result<OrganisationReport, AccountsError> {
        let own = self.principal().ids().map(|(id, _)| id);
        let found = self.parts().catalog.organisation(own, self.of()).await?;
        let found = found.ok_or_else(|| AccountsError::NoSuch(self.of().to_owned()))?;
        Ok(found.into())
    }

    /// Its members, by their names.
    pub async fn members(&self, page: PageRequest) -> Result<Page<MemberReport>, AccountsError> {
        let rows = self.rows_of_members(self.of(), &page).await?;
        Ok(Page::of(rows, page.size(), place, Into::into))
    }

    /// Its teams, by their names; `after` is the whole name of one.
    pub async fn teams(&self, page: PageRequest) -> Result<Page<TeamReport>, AccountsError> {
        let size = page.size();
        let listing = self.parts().catalog.teams(self.of(), &page.after, size + 1);
        let key = |row: &StoredTeam| row.name.clone();
        Ok(Page::of(listing.await?, size, key, Into::into))
    }

    /// Its team of that name.
    pub async fn team(&self, name: &str) -> Result<TeamReport, AccountsError> {
        let team = self.handle_of(name)?;
        let found = self.parts().catalog.team(team.as_str()).await?;
        let found = found.ok_or_else(|| AccountsError::NoSuch(team.to_string()))?;
        Ok(found.into())
    }

    /// The members of its team of that name, by their names.
    pub async fn team_members(
        &self,
        team: &str,
        page: PageRequest,
    ) -> Result<Page<TeamMemberReport>, AccountsError> {
        let team = self.team(team).await?.team;
        let rows = self.rows_of_members(&team, &page).await?;
        Ok(Page::of(rows, page.size(), place, Into::into))
    }
}

impl Leave<OrganisationAdmin> {
    /// Says from where the namespaces of the organisation may be used. Elsewhere it looks as if it were not there.
    pub async fn set_addresses(
        &self,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        self.admit_from(self.of(), addresses).await
    }

    /// Makes somebody a member who is no owner, or something else that is none.
    pub async fn set_member(&self, member: &str, role: Role) -> Result<(), AccountsError> {
        self.put_member(member, role).await
    }

    /// Ends that somebody belongs to the organisation who is no owner; and what he was granted in its namespaces.
    pub async fn remove_member(&self, member: &str) -> Result<(), AccountsError> {
        self.drop_member(member).await
    }

    /// Makes a team, and says its whole name.
    pub async fn create_team(&self, name: &str) -> Result<String, AccountsError> {
        let team = self.handle_of(name)?;
        let catalog = &self.parts().catalog;
        settled(catalog.create_team(self.authority(), team.clone()).await?)?;
        Ok(team.to_string())
    }

    /// Removes a team, and what it was granted.
    pub async fn remove_team(&self, name: &str) -> Result<(), AccountsError> {
        let team = self.handle_of(name)?;
        let catalog = &self.parts().catalog;
        settled(catalog.remove_team(self.authority(), team).await?)
    }
}

impl Leave<OrganisationOwner> {
    /// Makes somebody a member, an owner too, or something else.
    pub async fn set_member(&self, member: &str, role: Role) -> Result<(), AccountsError> {
        self.put_member(member, role).await
    }

    /// Ends that somebody belongs to the organisation, and what he was granted in its namespaces. One owner stays.
    pub async fn remove_member(&self, member: &str) -> Result<(), AccountsError> {
        self.drop_member(member).await
    }

    /// Removes the organisation, which has no repositories, with its teams and robots and everything that was granted.
    pub async fn remove_organisation(&self) -> Result<(), AccountsError> {
        let catalog = &self.parts().catalog;
        let removing = catalog.remove_organisation(self.authority(), self.of());
        settled(removing.await?)
    }
}

impl Leave<TeamMaintainer> {
    fn handle(&self) -> Result<TeamHandle, AccountsError> {
        Ok(self.of().parse()?)
    }

    /// Makes somebody a member or maintainer of the team. Who was none yet becomes a member of the organisation, too.
    pub async fn set_member(&self, member: &str, role: TeamRole) -> Result<(), AccountsError> {
        let (catalog, team) = (&self.parts().catalog, self.handle()?);
        let setting = catalog.set_team_member(self.authority(), team, member.to_owned(), role);
        settled(setting.await?)
    }

    /// Ends that somebody belongs to the team.
    pub async fn remove_member(&self, member: &str) -> Result<(), AccountsError> {
        let (catalog, team) = (&self.parts().catalog, self.handle()?);
        let removing = catalog.remove_team_member(self.authority(), team, member.to_owned());
        settled(removing.await?)
    }
}

impl Registry {
    /// Makes somebody a member of an organisation, or something else in it: by leave of an owner if he is or becomes one, else
    /// of an administrator.
    pub async fn set_member(
        &self,
        caller: &Caller,
        organisation: &str,
        member: &str,
        role: Role,
    ) -> Result<(), AccountsError> {
        if role == Role::Owner || self.parts.catalog.is_owner(organisation, member).await? {
            let leave = self.leave_of::<OrganisationOwner>(caller, organisation);
            return leave.await?.set_member(member, role).await;
        }
        let leave = self.leave_of::<OrganisationAdmin>(caller, organisation);
        leave.await?.set_member(member, role).await
    }

    /// Ends that somebody belongs to an organisation, by the same leave.
    pub async fn remove_member(
        &self,
        caller: &Caller,
        organisation: &str,
        member: &str,
    ) -> Result<(), AccountsError> {
        if self.parts.catalog.is_owner(organisation, member).await? {
            let leave = self.leave_of::<OrganisationOwner>(caller, organisation);
            return leave.await?.remove_member(member).await;
        }
        let leave = self.leave_of::<OrganisationAdmin>(caller, organisation);
        leave.await?.remove_member(member).await
    }

    async fn leave_of<S: Sphere<Of = String>>(
        &self,
        caller: &Caller,
        organisation: &str,
    ) -> Result<Leave<S>, AccountsError> {
        self.ask_leave::<S>(caller, organisation.to_owned()).await
    }
}
