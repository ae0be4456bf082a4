//! What the machine's operator does about issuers of identity tokens, and publishers.

use serde::{Deserialize, Serialize};

use super::{
    AccountsError, AccountsReport,
    groups::{Page, PageRequest},
    issuers::IssuerChange,
    publishers::{IssuerReport, IssuerRequest, PublisherReport, PublisherRequest},
};
use crate::{Installation, Registry, RobotOwner};

/// Something to do about issuers and publishers.
#[derive(Clone, Debug, Serialize, Deserialize)]
// Another word than those of the commands it is in, because all are fields of one object.
#[serde(tag = "publishing", rename_all = "kebab-case")]
pub enum PublishingCommand {
    /// Trust an issuer.
    AddIssuer(IssuerRequest),
    /// List the issuers.
    Issuers,
    /// Change an issuer.
    ChangeIssuer {
        /// Its number or identifier.
        issuer: String,
        /// What is to be changed.
        change: IssuerChange,
    },
    /// Trust an issuer no longer.
    RemoveIssuer {
        /// Its number or identifier.
        issuer: String,
    },
    /// Add a publisher.
    AddPublisher {
        /// Whose robot it is.
        owner: String,
        /// What is to be added.
        request: PublisherRequest,
    },
    /// List the publishers of an organisation's or a user's robots.
    Publishers {
        /// Whose.
        owner: String,
        /// Those behind this one.
        after: String,
    },
    /// Remove a publisher.
    RemovePublisher {
        /// Its number.
        id: i64,
    },
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "publishing", rename_all = "kebab-case")]
pub enum PublishingReport {
    /// The issuer is trusted.
    IssuerAdded(IssuerReport),
    /// The issuer is changed.
    IssuerChanged(IssuerReport),
    /// All issuers.
    Issuers {
        /// By their identifiers.
        issuers: Vec<IssuerReport>,
    },
    /// The publisher is there.
    PublisherAdded(PublisherReport),
    /// Publishers, in the order in which they were made.
    Publishers(Page<PublisherReport>),
    /// It is removed.
    Removed {
        /// Its number.
        id: i64,
    },
}

impl Registry {
    pub(super) async fn publishing(
        &self,
        command: PublishingCommand,
    ) -> Result<AccountsReport, AccountsError> {
        use PublishingCommand as Command;
        let leave = self.operators_leave::<Installation>(());
        let owners = |owner| self.operators_leave::<RobotOwner>(owner);
        let report = match command {
            Command::AddIssuer(request) => {
                PublishingReport::IssuerAdded(leave.add_issuer(request).await?)
            }
            Command::Issuers => PublishingReport::Issuers {
                issuers: leave.issuers().await?,
            },
            Command::ChangeIssuer { issuer, change } => {
                PublishingReport::IssuerChanged(leave.change_issuer(&issuer, change).await?)
            }
            Command::RemoveIssuer { issuer } => PublishingReport::Removed {
                id: leave.remove_issuer(&issuer).await?,
            },
            Command::AddPublisher { owner, request } => {
                PublishingReport::PublisherAdded(owners(owner).add_publisher(request).await?)
            }
            Command::Publishers { owner, after } => {
                self.need_owner(&owner).await?;
                let page = PageRequest::longest(after);
                PublishingReport::Publishers(owners(owner).publishers(page).await?)
            }
            Command::RemovePublisher { id } => {
                leave.remove_any_publisher(id).await?;
                PublishingReport::Removed { id }
            }
        };
        Ok(AccountsReport::Publishing(report))
    }
}
