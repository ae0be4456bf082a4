//! `granary admin` commands about organisations, teams, members and robots.

use granary_access::{AddressBlocks, Role, TeamRole};
use granary_registry::{AccountsCommand, GroupsCommand};
use serde_json::Value;

use crate::{
    accounts::{done, list, rows, text},
    cli::{
        MemberArgs, MemberCommand, MemberSetArgs, OrgCommand, OutputArgs, RobotCommand, RoleArg,
        TeamCommand,
    },
    moving::UsageError,
};

fn ask(
    output: &OutputArgs,
    command: GroupsCommand,
    sentence: impl FnOnce(&Value) -> String,
) -> anyhow::Result<()> {
    let command = AccountsCommand::Groups(command);
    done(&output.config, command, output.json, sentence)
}

/// A page of a list, and how to ask for the next.
pub(crate) fn page(report: &Value, line: impl Fn(&Value) -> String) -> String {
    let lines = rows(report, "entries", line);
    match report["next"].as_str() {
        Some(next) => format!("{lines}there are more: --after '{next}'\n"),
        None => lines,
    }
}

/// Addresses for a list, which has a bound.
pub(crate) fn blocks(from: &[granary_access::AddressBlock]) -> Result<AddressBlocks, UsageError> {
    AddressBlocks::of(from.to_vec()).map_err(|error| UsageError(error.to_string()))
}

fn from_where(report: &Value) -> String {
    match report["addresses"].as_array() {
        None => "everywhere".to_owned(),
        Some(list) => {
            let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            list.join(", ")
        }
    }
}

/// `granary admin org`
pub fn org(command: &OrgCommand) -> anyhow::Result<()> {
    match command {
        OrgCommand::Create(args) => {
            let command = GroupsCommand::CreateOrganisation {
                organisation: args.organisation.clone(),
                owner: args.owner.clone(),
            };
            ask(&args.output, command, |report| {
                let name = text(report, "organisation");
                let namespace = match report["took_over"] == true {
                    true => "which were there before, ",
                    false => "",
                };
                format!(
                    "{name} is there: repositories whose names begin with {name}/, {namespace}belong to it\n"
                )
            })
        }
        OrgCommand::List(args) => {
            let after = args.after.clone();
            let command = GroupsCommand::Organisations { after };
            ask(&args.output, command, |report| {
                page(report, |entry| text(entry, "organisation").to_owned())
            })
        }
        OrgCommand::Show(args) => {
            let organisation = args.organisation.clone();
            let command = GroupsCommand::Organisation { organisation };
            ask(&args.output, command, |report| {
                let (name, owners) = (text(report, "organisation"), list(&report["owners"]));
                format!(
                    "{name}\n  owners     {owners}\n  open to    {}\n",
                    from_where(report)
                )
            })
        }
        OrgCommand::Remove(args) => {
            let organisation = args.organisation.clone();
            let command = GroupsCommand::RemoveOrganisation { organisation };
            ask(&args.output, command, removed)
        }
        OrgCommand::Address(args) => {
            let command = GroupsCommand::SetAddresses {
                name: args.name.clone(),
                addresses: args.addresses.list()?,
            };
            let everywhere = args.addresses.everywhere;
            ask(&args.output, command, |report| {
                let name = text(report, "name");
                match everywhere {
                    true => format!("{name} may be used from everywhere\n"),
                    false => format!("{name} may be used from these addresses only\n"),
                }
            })
        }
    }
}

fn removed(report: &Value) -> String {
    format!("{} is removed\n", text(report, "name"))
}

fn made(report: &Value) -> String {
    format!("{} is there\n", text(report, "name"))
}

/// What stands before and behind a sign.
fn split(text: &str, sign: char) -> (String, String) {
    let (one, other) = text.split_once(sign).unwrap_or((text, ""));
    (one.to_owned(), other.to_owned())
}

/// `granary admin team`
pub fn team(command: &TeamCommand) -> anyhow::Result<()> {
    match command {
        TeamCommand::Create(args) => {
            let (organisation, team) = split(args.team.as_str(), '/');
            let command = GroupsCommand::CreateTeam { organisation, team };
            ask(&args.output, command, made)
        }
        TeamCommand::List(args) => {
            let command = GroupsCommand::Teams {
                organisation: args.organisation.clone(),
                after: args.after.clone(),
            };
            ask(&args.output, command, |report| {
                page(report, |entry| text(entry, "team").to_owned())
            })
        }
        TeamCommand::Remove(args) => {
            let (organisation, team) = split(args.team.as_str(), '/');
            let command = GroupsCommand::RemoveTeam { organisation, team };
            ask(&args.output, command, removed)
        }
    }
}

fn set(args: &MemberSetArgs) -> Result<GroupsCommand, UsageError> {
    let MemberArgs { group, member, .. } = &args.about;
    let (group, member) = (group.clone(), member.clone());
    if group.contains('/') {
        let role = match args.role {
            RoleArg::Member => TeamRole::Member,
            RoleArg::Maintainer => TeamRole::Maintainer,
            RoleArg::Read | RoleArg::Write | RoleArg::Admin | RoleArg::Owner => {
                return Err(UsageError(
                    "in a team somebody is member or maintainer".to_owned(),
                ));
            }
        };
        return Ok(GroupsCommand::SetTeamMember {
            team: group,
            member,
            role,
        });
    }
    let role = match args.role {
        RoleArg::Member => Role::Member,
        RoleArg::Read => Role::Read,
        RoleArg::Write => Role::Write,
        RoleArg::Admin => Role::Admin,
        RoleArg::Owner => Role::Owner,
        RoleArg::Maintainer => {
            return Err(UsageError(
                "only a team has maintainers: write ORGANISATION/TEAM".to_owned(),
            ));
        }
    };
    Ok(GroupsCommand::SetMember {
        organisation: group,
        member,
        role,
    })
}

/// `granary admin member`
pub fn member(command: &MemberCommand) -> anyhow::Result<()> {
    match command {
        MemberCommand::Set(args) => {
            let (command, about) = (set(args)?, &args.about);
            ask(&about.output, command, |report| {
                format!("{} belongs to {}\n", text(report, "name"), about.group)
            })
        }
        MemberCommand::Remove(args) => {
            let member = args.member.clone();
            let command = match args.group.contains('/') {
                true => GroupsCommand::RemoveTeamMember {
                    team: args.group.clone(),
                    member,
                },
                false => GroupsCommand::RemoveMember {
                    organisation: args.group.clone(),
                    member,
                },
            };
            ask(&args.output, command, |report| {
                let name = text(report, "name");
                format!("{name} belongs to {} no longer\n", args.group)
            })
        }
        MemberCommand::List(args) => {
            let after = args.after.clone();
            let command = match args.group.contains('/') {
                true => {
                    let (organisation, team) = split(&args.group, '/');
                    GroupsCommand::TeamMembers {
                        organisation,
                        team,
                        after,
                    }
                }
                false => GroupsCommand::Members {
                    organisation: args.group.clone(),
                    after,
                },
            };
            ask(&args.output, command, |report| {
                page(report, |entry| {
                    let source = match text(entry, "source") {
                        "" => String::new(),
                        source => format!("  as {source} says"),
                    };
                    format!("{}  {}{source}", text(entry, "member"), text(entry, "role"))
                })
            })
        }
    }
}

/// `granary admin robot`
pub fn robot(command: &RobotCommand) -> anyhow::Result<()> {
    match command {
        RobotCommand::Create(args) => {
            let (organisation, robot) = split(args.robot.as_str(), '+');
            let command = GroupsCommand::CreateRobot {
                organisation,
                robot,
            };
            ask(&args.output, command, made)
        }
        RobotCommand::List(args) => {
            let command = GroupsCommand::Robots {
                organisation: args.organisation.clone(),
                after: args.after.clone(),
            };
            ask(&args.output, command, |report| {
                page(report, |entry| {
                    let role = entry["role"].as_str().unwrap_or("what it was granted");
                    let (robot, from) = (text(entry, "robot"), from_where(entry));
                    format!("{robot}  {role}  from {from}")
                })
            })
        }
        RobotCommand::Remove(args) => {
            let (organisation, robot) = split(args.robot.as_str(), '+');
            let command = GroupsCommand::RemoveRobot {
                organisation,
                robot,
            };
            ask(&args.output, command, removed)
        }
    }
}
