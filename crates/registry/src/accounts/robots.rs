//! Robots of organisations and users, and their tokens.

use granary_access::{AddressBlocks, PrincipalId, RobotHandle, Role, Scopes};
use granary_catalog::{PrincipalKind, StoredRobot};
use granary_identity::Secret;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    AccountsError,
    groups::{Page, PageRequest, settled},
    tokens::{RotateRequest, TokenReport, TokenRequest},
};
use crate::{Leave, Registry, RegistryError, RobotOwner};

/// A robot, for people and programs.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RobotReport {
    /// Its name, with that of whom it belongs to.
    pub robot: String,
    /// What it is in its organisation.
    pub role: Option<Role>,
    /// From where it may be used, if not from everywhere.
    pub addresses: Option<AddressBlocks>,
    /// When it was made.
    #[serde(serialize_with = "super::time::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: i64,
}

impl From<StoredRobot> for RobotReport {
    fn from(stored: StoredRobot) -> Self {
        Self {
            robot: stored.name,
            role: stored.role,
            addresses: stored.addresses,
            created_at: stored.created_at,
        }
    }
}

impl Leave<RobotOwner> {
    /// The name of whom the robots belong to.
    pub(super) fn owner(&self) -> &str {
        match self.of() {
            "" => self.principal().name(),
            organisation => organisation,
        }
    }

    fn robot(&self, name: &str) -> Result<RobotHandle, AccountsError> {
        Ok(RobotHandle::of(self.owner(), name)?)
    }

    async fn id_of_robot(&self, name: &str) -> Result<PrincipalId, AccountsError> {
        let robot = self.robot(name)?;
        match self.parts().catalog.named(robot.as_str()).await? {
            Some((id, PrincipalKind::Robot)) => Ok(id),
            _ => Err(AccountsError::NoSuch(robot.to_string())),
        }
    }

    /// Makes a robot, and says its whole name.
    pub async fn create_robot(&self, name: &str) -> Result<String, AccountsError> {
        let robot = self.robot(name)?;
        let catalog = &self.parts().catalog;
        settled(
            catalog
                .create_robot(self.authority(), robot.clone())
                .await?,
        )?;
        Ok(robot.to_string())
    }

    /// Removes a robot for good, with its tokens and rights.
    pub async fn remove_robot(&self, name: &str) -> Result<(), AccountsError> {
        let robot = self.robot(name)?;
        let catalog = &self.parts().catalog;
        settled(catalog.remove_robot(self.authority(), robot).await?)
    }

    /// The robots, by their names; `after` is the whole name of one.
    pub async fn robots(&self, page: PageRequest) -> Result<Page<RobotReport>, AccountsError> {
        let size = page.size();
        let catalog = &self.parts().catalog;
        let listing = catalog.robots(self.owner(), &page.after, size + 1);
        let key = |row: &StoredRobot| row.name.clone();
        Ok(Page::of(listing.await?, size, key, Into::into))
    }

    /// Says from where a robot may be used; from everywhere without a list.
    pub async fn set_robot_addresses(
        &self,
        name: &str,
        addresses: Option<AddressBlocks>,
    ) -> Result<(), AccountsError> {
        let robot = self.robot(name)?;
        self.admit_from(robot.as_str(), addresses).await
    }

    /// The tokens of a robot, in the order in which they were made.
    pub async fn robot_tokens(&self, name: &str) -> Result<Vec<TokenReport>, AccountsError> {
        self.tokens_of(self.id_of_robot(name).await?).await
    }

    /// Makes a token of a robot, and says its number and the token, this once.
    pub async fn create_robot_token(
        &self,
        name: &str,
        mut request: TokenRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        let id = self.id_of_robot(name).await?;
        request.scopes = of_robot(request.scopes)?;
        self.create_token_of(id, request).await
    }

    /// Gives a token of a robot a successor, and says its number and the token, this once.
    pub async fn rotate_robot_token(
        &self,
        name: &str,
        request: RotateRequest,
    ) -> Result<(i64, Secret), AccountsError> {
        let id = self.id_of_robot(name).await?;
        self.rotate(Some(id), request).await
    }

    /// Ends a token of a robot.
    pub async fn revoke_robot_token(&self, name: &str, id: i64) -> Result<(), AccountsError> {
        let robot = self.id_of_robot(name).await?;
        self.revoke(Some(robot), id).await
    }
}

/// The scopes of a robot's token. Nobody said that it may look after accounts if nobody said anything: a token that leaks
/// must not make others.
pub(super) fn of_robot(scopes: Scopes) -> Result<Scopes, RegistryError> {
    if !scopes.are_unlimited() {
        return Ok(scopes);
    }
    let all = "read,write,update,delete,admin:**".parse();
    let all = all.map_err(|_| RegistryError::Internal("the scope of robots cannot be read"))?;
    Ok(Scopes::only(vec![all]))
}

impl Registry {
    /// The number of the user or robot of that name, and whether it is a robot.
    pub(super) async fn bearer(&self, name: &str) -> Result<(PrincipalId, bool), AccountsError> {
        match self.parts.catalog.named(name).await? {
            Some((id, PrincipalKind::User)) => Ok((id, false)),
            Some((id, PrincipalKind::Robot)) => Ok((id, true)),
            _ => Err(AccountsError::NoSuchUser(name.to_owned())),
        }
    }

    /// The number of the user, robot or team of that name, who can be granted something.
    pub(super) async fn grantee(&self, name: &str) -> Result<PrincipalId, AccountsError> {
        match self.parts.catalog.named(name).await? {
            Some((_, PrincipalKind::Organisation)) => {
                Err(AccountsError::NotToOrganisation(name.to_owned()))
            }
            Some((id, _)) => Ok(id),
            None => Err(AccountsError::NoSuch(name.to_owned())),
        }
    }

    /// The number of the user or organisation of that name, who can own a namespace.
    pub(super) async fn landlord(&self, name: &str) -> Result<PrincipalId, AccountsError> {
        match self.parts.catalog.named(name).await? {
            Some((id, PrincipalKind::User | PrincipalKind::Organisation)) => Ok(id),
            _ => Err(AccountsError::NoSuch(name.to_owned())),
        }
    }

    /// An error if there is no user or organisation of that name: without one an empty list would hide a slip of the pen.
    pub(super) async fn need_owner(&self, name: &str) -> Result<(), AccountsError> {
        match self.parts.catalog.named(name).await? {
            Some((_, PrincipalKind::User | PrincipalKind::Organisation)) => Ok(()),
            _ => Err(AccountsError::NoSuchOwner(name.to_owned())),
        }
    }
}
