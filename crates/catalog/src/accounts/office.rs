//! What is looked after that is no repository's content: accounts, the installation, organisations, namespaces. Every change
//! there is decided again in its transaction, and tells the audit log of itself.

use granary_access::{
    Action, Caller, Context, CredentialId, Decision, Principal, PrincipalId, Reason, Role, decide,
};
use granary_oci::RepositoryName;

use super::{
    confirm::Asker,
    groups::Name,
    rights::{self, RightsNow, RightsRow},
    warm::GENERATION,
    watch::has_accounts,
};
use crate::{
    Catalog, CatalogError,
    audit::{self, Deed},
    dialect::{self, Dialect},
    sql,
    writer::Write,
};

/// What leave is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Office {
    /// To learn who one is.
    Oneself,
    /// To look after one's own account.
    Account,
    /// To look after the installation.
    Installation,
    /// To be at least that in the organisation of this name.
    Organisation(String, Role),
    /// To look after the team of this name, `ORGANISATION/TEAM`: as its maintainer, or an administrator of the organisation.
    Team(String),
    /// To look after the namespace of this name.
    Namespace(String),
    /// To administer this repository.
    Repository(RepositoryName),
}

impl Office {
    /// What is asked of the decision function.
    pub fn action(&self) -> Action<'static> {
        match self {
            Self::Oneself => Action::Ping,
            Self::Account => Action::OwnAccount,
            Self::Installation => Action::Installation,
            Self::Organisation(_, least) => Action::Organisation(*least),
            Self::Team(_) => Action::Organisation(Role::Admin),
            Self::Namespace(_) => Action::Namespace,
            Self::Repository(_) => Action::Administer,
        }
    }

    /// Where, if it is about a repository.
    pub fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Repository(name) => Some(name),
            _ => None,
        }
    }
}

/// Who asks for a change, and by what leave.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Who.
    pub asker: Asker,
    /// What it needs leave for.
    pub office: Office,
    /// What else it needs leave for.
    also: Option<Office>,
}

/// What was done, or why it was not allowed.
pub type Decided<T> = Result<T, Reason>;

impl Authority {
    /// Somebody who asks for what needs leave for `office`.
    pub fn new(asker: Asker, office: Office) -> Self {
        Self {
            asker,
            office,
            also: None,
        }
    }

    /// The same for what needs leave for another office, too.
    #[must_use]
    pub fn and(self, office: Office) -> Self {
        Self {
            also: Some(office),
            ..self
        }
    }

    /// The machine's operator, who may do everything.
    pub fn operator() -> Self {
        Self::new(Asker::operator(), Office::Installation)
    }

    /// Whether it is the operator.
    pub fn is_operator(&self) -> bool {
        self.asker.principal == Principal::Operator
    }

    /// Who asks.
    pub fn caller(&self) -> Caller {
        Caller {
            principal: self.asker.principal.clone(),
            origin: self.asker.origin.clone(),
        }
    }

    /// The number of who asks, for `created_by`.
    pub(crate) fn author(&self) -> Option<i64> {
        self.asker.owner()
    }

    /// Whether whoever asks may know of the robots and teams of this user or organisation: as the user, as a member, or as one
    /// who administers the installation.
    pub(super) async fn sees_what_belongs_to(
        &self,
        write: &Write,
        owner: i64,
    ) -> Result<bool, CatalogError> {
        let find = "SELECT handle AS name FROM principals WHERE id = $1 AND kind = 3";
        let organisation: Option<Name> = sql::one(&write.transaction, find, [owner.into()]).await?;
        let office = match organisation {
            Some(organisation) => Office::Organisation(organisation.name, Role::Member),
            None if self.author() == Some(owner) => Office::Account,
            None => Office::Installation,
        };
        Ok(self.confirm_in(&office, write).await?.is_none())
    }

    /// Notes what was done under it.
    pub(crate) async fn note(&self, write: &Write, deed: Deed) -> Result<(), CatalogError> {
        audit::note(write, &self.asker, deed).await
    }

    async fn confirm(&self, write: &Write) -> Result<Option<Reason>, CatalogError> {
        for office in std::iter::once(&self.office).chain(&self.also) {
            if let Some(reason) = self.confirm_in(office, write).await? {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    async fn confirm_in(
        &self,
        office: &Office,
        write: &Write,
    ) -> Result<Option<Reason>, CatalogError> {
        let read = match &self.asker.principal {
            Principal::Operator => return Ok(None),
            Principal::Local => {
                let mut local = RightsNow::default();
                local.rights.accounts = has_accounts(&write.transaction).await?;
                local
            }
            Principal::Anonymous | Principal::Known { .. } => {
                let ids = self.asker.principal.ids();
                let (statement, values) = question(write.dialect, ids, office);
                let rows: Vec<RightsRow> = sql::all(&write.transaction, &statement, values).await?;
                read(&rows, ids, office, write.now)?
            }
        };
        let context = Context {
            now: read.now,
            anonymous: self.asker.anonymous,
            address: self.asker.origin.address,
        };
        match decide(
            &self.asker.principal,
            office.action(),
            office.repository(),
            &read.rights,
            &context,
        ) {
            Decision::Allow => Ok(None),
            Decision::Deny(reason) => Ok(Some(reason)),
        }
    }
}

/// The rights of a member in an organisation, or in one of its teams, in the form of those in a repository: the organisation
/// stands for a namespace's owner, and the team for a repository.
fn of_group(dialect: Dialect) -> String {
    format!(
        "WITH head AS ( \
           SELECT {GENERATION} AS generation, {clock} AS now, \
                  CAST(p.state AS bigint) AS state, p.handle, CAST(p.system_role AS bigint) AS system_role, p.addresses AS own_addresses, \
                  c.id AS credential_id, c.revoked_at, c.expires_at AS ends_at, c.addresses AS credential_addresses, \
                  o.revoked_at AS parent_revoked_at, o.expires_at AS parent_ends_at, o.addresses AS parent_addresses, \
                  CAST(u.state AS bigint) AS robot_owner_state, u.addresses AS robot_owner_addresses, \
                  n.id AS namespace_id, n.id AS owner_id, n.addresses AS owner_addresses, r.id AS repository_id, \
                  CAST(NULL AS bigint) AS visibility, CAST(NULL AS bigint) AS create_by, CAST(NULL AS bigint) AS default_visibility, \
                  CAST(NULL AS varchar) AS immutable_tags \
           FROM (SELECT 1 AS one) z \
           LEFT JOIN principals p ON p.id = $1 \
           LEFT JOIN principals u ON u.id = p.owner_id AND u.kind = 1 \
           LEFT JOIN credentials c ON c.id = $2 AND c.principal_id = $1 \
           LEFT JOIN credentials o ON o.id = c.parent_id \
           LEFT JOIN principals n ON n.handle = $3 AND n.kind = 3 AND n.state <> 2 \
           LEFT JOIN principals r ON r.handle = $4 AND r.kind = 4 AND r.state <> 2 AND r.owner_id = n.id \
         ), me AS ( \
           SELECT CAST($1 AS bigint) AS id, CAST(0 AS bigint) AS role \
           UNION ALL \
           SELECT m.group_id, CASE WHEN m.group_id = head.owner_id THEN CAST(m.role AS bigint) ELSE CAST(4 AS bigint) END FROM head \
           JOIN memberships m ON m.member_id = $1 AND m.organisation_id = head.owner_id \
           WHERE m.group_id = head.owner_id OR (m.group_id = head.repository_id AND m.role >= 4) \
         ) \
         SELECT head.*, COALESCE(head.owner_id, 0) AS grantee_id, me.role, CAST(NULL AS bigint) AS actions, CAST(NULL AS varchar) AS tags, \
                CAST(NULL AS bigint) AS expires_at FROM head JOIN me ON TRUE",
        clock = match dialect {
            Dialect::Sqlite => "NULL".to_owned(),
            Dialect::Postgres => dialect.clock(),
        },
    )
}

fn question(
    dialect: Dialect,
    principal: Option<(PrincipalId, CredentialId)>,
    office: &Office,
) -> (String, Vec<sea_orm::Value>) {
    let (organisation, team) = match office {
        Office::Oneself | Office::Account | Office::Installation => {
            return rights::question(dialect, principal, None);
        }
        Office::Repository(name) => return rights::question(dialect, principal, Some(name)),
        Office::Namespace(name) => return rights::question_of_namespace(dialect, principal, name),
        Office::Organisation(name, _) => (name.as_str(), ""),
        Office::Team(name) => (name.split('/').next().unwrap_or_default(), name.as_str()),
    };
    let (id, credential) = principal.map_or((0, 0), |(id, credential)| (id.0, credential.0));
    let values = vec![
        id.into(),
        credential.into(),
        organisation.into(),
        team.into(),
    ];
    (of_group(dialect), values)
}

fn read(
    rows: &[RightsRow],
    principal: Option<(PrincipalId, CredentialId)>,
    office: &Office,
    now: i64,
) -> Result<RightsNow, CatalogError> {
    let mut read = rights::read(rows, principal, office.repository(), now)?;
    match office {
        Office::Namespace(name) => {
            // Whoever bears the name of a namespace that is not there yet has it. Who administers the installation gives it an
            // owner and a quota before it is used.
            read.rights.is_own |= !read.rights.namespace_exists && rights::bears(rows, name);
            read.rights.exists =
                read.rights.namespace_exists || read.rights.is_own || read.rights.is_administrator;
        }
        Office::Organisation(..) => read.rights.exists = read.rights.namespace_exists,
        Office::Oneself
        | Office::Account
        | Office::Installation
        | Office::Team(_)
        | Office::Repository(_) => {}
    }
    Ok(read)
}

impl Catalog {
    /// What a principal may do in an office.
    pub async fn office_rights(
        &self,
        principal: Option<(PrincipalId, CredentialId)>,
        office: &Office,
    ) -> Result<RightsNow, CatalogError> {
        if matches!(
            office,
            Office::Oneself | Office::Account | Office::Installation | Office::Repository(_)
        ) {
            return self.rights(principal, office.repository()).await;
        }
        let now = dialect::now();
        let (statement, values) = question(self.reads.dialect, principal, office);
        let rows: Vec<RightsRow> = self.reads.all(&statement, values).await?;
        read(&rows, principal, office, now)
    }

    /// Runs `work` in a transaction in which its leave was confirmed.
    pub(crate) async fn decided<T, F>(
        &self,
        by: &Authority,
        work: F,
    ) -> Result<Decided<T>, CatalogError>
    where
        T: Send + 'static,
        F: AsyncFnOnce(&mut Write, &Authority) -> Result<T, CatalogError> + Clone + Send + 'static,
    {
        let by = by.clone();
        self.write(async move |write| {
            if let Some(reason) = by.confirm(write).await? {
                return Ok(Err(reason));
            }
            Ok(Ok(work(write, &by).await?))
        })
        .await
    }
}
