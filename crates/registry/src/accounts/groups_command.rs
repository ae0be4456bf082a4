//! What the machine's operator does about organisations, teams and robots.

use std::time::Duration;

use granary_access::{AddressBlocks, Role, TeamRole};
use granary_identity::Secret;
use serde::{Deserialize, Serialize};

use super::{
    AccountsError, AccountsReport,
    command::revealed,
    groups::{MemberReport, OrganisationReport, Page, PageRequest, TeamMemberReport, TeamReport},
    robots::RobotReport,
    tokens::RotateRequest,
};
use crate::{
    Installation, Leave, OrganisationAdmin, OrganisationMember, OrganisationOwner, Registry,
    RobotOwner, TeamMaintainer,
};

/// Something to do about organisations, teams and robots.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than those of the commands it is in, because all are fields of one object.
#[serde(tag = "group", rename_all = "kebab-case")]
pub enum GroupsCommand {
    /// Make an organisation.
    CreateOrganisation {
        /// Its name.
        organisation: String,
        /// Its first owner.
        owner: String,
    },
    /// List the organisations.
    Organisations {
        /// Those behind this one.
        after: String,
    },
    /// Say how an organisation is.
    Organisation {
        /// Its name.
        organisation: String,
    },
    /// Remove an organisation.
    RemoveOrganisation {
        /// Its name.
        organisation: String,
    },
    /// Say from where a user or robot may be used, or the namespaces of an organisation.
    SetAddresses {
        /// Its name.
        name: String,
        /// From where; from everywhere without a list.
        addresses: Option<AddressBlocks>,
    },
    /// Make a team.
    CreateTeam {
        /// Of which organisation.
        organisation: String,
        /// Its own part of the name.
        team: String,
    },
    /// List the teams of an organisation.
    Teams {
        /// Its name.
        organisation: String,
        /// Those behind this one.
        after: String,
    },
    /// Remove a team.
    RemoveTeam {
        /// Of which organisation.
        organisation: String,
        /// Its own part of the name.
        team: String,
    },
    /// Make somebody a member of an organisation, or something else in it.
    SetMember {
        /// Of which.
        organisation: String,
        /// Who.
        member: String,
        /// What he is.
        role: Role,
    },
    /// End that somebody belongs to an organisation.
    RemoveMember {
        /// To which.
        organisation: String,
        /// Who.
        member: String,
    },
    /// List the members of an organisation.
    Members {
        /// Of which.
        organisation: String,
        /// Those behind this one.
        after: String,
    },
    /// Make somebody a member or maintainer of a team.
    SetTeamMember {
        /// Of which, with its organisation.
        team: String,
        /// Who.
        member: String,
        /// What he is.
        role: TeamRole,
    },
    /// End that somebody belongs to a team.
    RemoveTeamMember {
        /// To which, with its organisation.
        team: String,
        /// Who.
        member: String,
    },
    /// List the members of a team.
    TeamMembers {
        /// Of which organisation.
        organisation: String,
        /// The team's own part of the name.
        team: String,
        /// Those behind this one.
        after: String,
    },
    /// Make a robot of an organisation.
    CreateRobot {
        /// Of which.
        organisation: String,
        /// Its own part of the name.
        robot: String,
    },
    /// List the robots of an organisation.
    Robots {
        /// Of which.
        organisation: String,
        /// Those behind this one.
        after: String,
    },
    /// Remove a robot of an organisation.
    RemoveRobot {
        /// Of which.
        organisation: String,
        /// Its own part of the name.
        robot: String,
    },
    /// Give a token a successor.
    RotateToken {
        /// Its number.
        id: i64,
        /// How long it is good beside its successor, in seconds.
        overlap: u64,
    },
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "group", rename_all = "kebab-case")]
pub enum GroupsReport {
    /// The organisation is there.
    OrganisationCreated {
        /// Its name.
        organisation: String,
        /// The namespace of its name was there, and is its own now.
        took_over: bool,
    },
    /// Organisations.
    Organisations(Page<OrganisationReport>),
    /// How the organisation is.
    Organisation {
        /// What everybody in it may know.
        #[serde(flatten)]
        report: OrganisationReport,
        /// Who owns it, by name.
        owners: Vec<String>,
    },
    /// So it is.
    Done {
        /// What was changed, made or removed.
        name: String,
    },
    /// Teams of the organisation.
    Teams(Page<TeamReport>),
    /// Members of the organisation.
    Members(Page<MemberReport>),
    /// Members of the team.
    TeamMembers(Page<TeamMemberReport>),
    /// Robots of the organisation.
    Robots(Page<RobotReport>),
    /// The token has a successor.
    TokenRotated {
        /// The successor's number.
        id: i64,
        /// The successor, which is shown this once.
        #[serde(serialize_with = "revealed::serialize")]
        token: Secret,
    },
}

impl Registry {
    pub(super) async fn groups(
        &self,
        command: GroupsCommand,
    ) -> Result<AccountsReport, AccountsError> {
        use GroupsCommand as Command;
        let leave = self.operators_leave::<Installation>(());
        let report = match command {
            Command::CreateOrganisation {
                organisation,
                owner,
            } => {
                let took_over = leave.create_organisation(&organisation, &owner).await?;
                GroupsReport::OrganisationCreated {
                    organisation,
                    took_over,
                }
            }
            Command::Organisations { after } => {
                let page = PageRequest::longest(after);
                GroupsReport::Organisations(leave.organisations(page).await?)
            }
            Command::SetAddresses { name, addresses } => {
                leave.set_addresses(&name, addresses).await?;
                GroupsReport::Done { name }
            }
            Command::RotateToken { id, overlap } => {
                let overlap = Duration::from_secs(overlap);
                let (id, token) = leave.rotate_token(RotateRequest { id, overlap }).await?;
                GroupsReport::TokenRotated { id, token }
            }
            Command::SetTeamMember { team, member, role } => {
                let leave = self.operators_leave::<TeamMaintainer>(team);
                leave.set_member(&member, role).await?;
                GroupsReport::Done { name: member }
            }
            Command::RemoveTeamMember { team, member } => {
                let leave = self.operators_leave::<TeamMaintainer>(team);
                leave.remove_member(&member).await?;
                GroupsReport::Done { name: member }
            }
            command => self.within_organisation(command).await?,
        };
        Ok(AccountsReport::Groups(report))
    }

    async fn within_organisation(
        &self,
        command: GroupsCommand,
    ) -> Result<GroupsReport, AccountsError> {
        use GroupsCommand as Command;
        let owner = |name| self.operators_leave::<OrganisationOwner>(name);
        let admin = |name| self.operators_leave::<OrganisationAdmin>(name);
        let robots_of = |name| self.operators_leave::<RobotOwner>(name);
        Ok(match command {
            Command::RemoveOrganisation { organisation } => {
                owner(organisation.clone()).remove_organisation().await?;
                GroupsReport::Done { name: organisation }
            }
            Command::SetMember {
                organisation,
                member,
                role,
            } => {
                owner(organisation).set_member(&member, role).await?;
                GroupsReport::Done { name: member }
            }
            Command::RemoveMember {
                organisation,
                member,
            } => {
                owner(organisation).remove_member(&member).await?;
                GroupsReport::Done { name: member }
            }
            Command::CreateTeam { organisation, team } => GroupsReport::Done {
                name: admin(organisation).create_team(&team).await?,
            },
            Command::RemoveTeam { organisation, team } => {
                let name = format!("{organisation}/{team}");
                admin(organisation).remove_team(&team).await?;
                GroupsReport::Done { name }
            }
            Command::CreateRobot {
                organisation,
                robot,
            } => GroupsReport::Done {
                name: robots_of(organisation).create_robot(&robot).await?,
            },
            Command::RemoveRobot {
                organisation,
                robot,
            } => {
                let name = format!("{organisation}+{robot}");
                robots_of(organisation).remove_robot(&robot).await?;
                GroupsReport::Done { name }
            }
            command => self.listed_within_organisation(command).await?,
        })
    }

    async fn listed_within_organisation(
        &self,
        command: GroupsCommand,
    ) -> Result<GroupsReport, AccountsError> {
        use GroupsCommand as Command;
        let member_of = |name| self.operators_leave::<OrganisationMember>(name);
        Ok(match command {
            Command::Robots {
                organisation,
                after,
            } => {
                self.need_owner(&organisation).await?;
                let leave = self.operators_leave::<RobotOwner>(organisation);
                GroupsReport::Robots(leave.robots(PageRequest::longest(after)).await?)
            }
            Command::Organisation { organisation } => {
                let leave = member_of(organisation);
                GroupsReport::Organisation {
                    report: leave.organisation().await?,
                    owners: owners(&leave).await?,
                }
            }
            Command::Teams {
                organisation,
                after,
            } => {
                self.need_owner(&organisation).await?;
                let leave = member_of(organisation);
                GroupsReport::Teams(leave.teams(PageRequest::longest(after)).await?)
            }
            Command::Members {
                organisation,
                after,
            } => {
                self.need_owner(&organisation).await?;
                let leave = member_of(organisation);
                GroupsReport::Members(leave.members(PageRequest::longest(after)).await?)
            }
            Command::TeamMembers {
                organisation,
                team,
                after,
            } => {
                let (leave, page) = (member_of(organisation), PageRequest::longest(after));
                GroupsReport::TeamMembers(leave.team_members(&team, page).await?)
            }
            other => {
                tracing::error!(?other, "a command is about no organisation");
                return Err(crate::RegistryError::Internal("an unknown command").into());
            }
        })
    }
}

async fn owners(leave: &Leave<OrganisationMember>) -> Result<Vec<String>, AccountsError> {
    let (mut owners, mut after) = (Vec::new(), Some(String::new()));
    while let Some(behind) = after {
        let page = leave.members(PageRequest::longest(behind)).await?;
        let of_page = page.entries.into_iter();
        owners.extend(
            of_page
                .filter(|member| member.role == Role::Owner)
                .map(|owner| owner.member),
        );
        after = page.next;
    }
    // Somebody may have said so, and a provider too.
    owners.dedup();
    Ok(owners)
}
