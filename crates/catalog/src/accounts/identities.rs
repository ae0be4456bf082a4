//! Users whom identity providers know. Each is found by issuer and subject, and by nothing else: a name or an address of
//! theirs may be another's tomorrow.

use granary_access::{Handle, Origin};
use sea_orm::FromQueryResult;
use serde_json::json;

use super::{
    confirm::Asker,
    mappings::{self, Belongs},
    principals::USER,
    rights::ACTIVE,
    sessions::{self, NewSession},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{self, Deed, action},
    sql::{self, Id},
    writer::Write,
};

/// Somebody who logged in at a provider.
#[derive(Clone, Debug)]
pub struct ForeignUser {
    /// Who says so.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// What it is called there, for people.
    pub claimed_name: Option<String>,
    /// Names that it may get here if it never was here before; the first that is free.
    pub handles: Vec<Handle>,
    /// Its groups there.
    pub groups: Vec<String>,
}

/// What came of a log-in at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogIn {
    /// The session is there, of the user of this name.
    In(String),
    /// The user of this name is disabled, or was removed.
    Gone(String),
    /// None of the names is free.
    NoName,
}

#[derive(FromQueryResult)]
struct Known {
    id: i64,
    name: String,
    state: i64,
}

#[derive(FromQueryResult)]
struct Belonging {
    group_id: i64,
    role: i64,
    name: String,
}

impl Catalog {
    /// Begins a session of whoever a provider says it is: finds or makes the user, and lets it belong to what its groups are
    /// mapped to, and by that provider's word to nothing else.
    pub async fn log_in(
        &self,
        user: ForeignUser,
        session: NewSession,
        origin: Origin,
    ) -> Result<LogIn, CatalogError> {
        self.write(async move |write| {
            let (found, is_new) = match known(write, &user).await? {
                Some(found) => (found, false),
                None => match make(write, &user).await? {
                    Some(made) => made,
                    None => return Ok(LogIn::NoName),
                },
            };
            if found.state != ACTIVE {
                return Ok(LogIn::Gone(found.name));
            }
            let seen = "UPDATE identities SET seen_at = $3, claimed_name = $4 WHERE issuer = $1 AND subject = $2";
            let values = [
                user.issuer.as_str().into(),
                user.subject.as_str().into(),
                write.now.into(),
                user.claimed_name.clone().into(),
            ];
            sql::execute(&write.transaction, seen, values).await?;
            let who = (found.id, found.name.as_str());
            let asker = sessions::begin(write, who, None, session, &origin).await?;
            if is_new {
                let detail = json!({ "administrator": false, "issuer": user.issuer });
                let deed = Deed::new(action::USER_CREATE, &found.name).with(detail);
                audit::note(write, &asker, deed).await?;
            }
            belong(write, who, &user, &asker).await?;
            Ok(LogIn::In(found.name))
        })
        .await
    }
}

/// The user of that issuer and subject, whose row nobody changes while the transaction lasts. Who makes it a member of something
/// has locked that and only keeps the row: neither waits for the other.
async fn known(write: &Write, user: &ForeignUser) -> Result<Option<Known>, CatalogError> {
    let query = format!(
        "SELECT p.id, p.name, CAST(p.state AS bigint) AS state FROM identities i JOIN principals p ON p.id = i.principal_id \
         WHERE i.issuer = $1 AND i.subject = $2{}",
        write.dialect.lock_values("p")
    );
    let values = [user.issuer.as_str().into(), user.subject.as_str().into()];
    sql::one(&write.transaction, &query, values).await
}

/// Makes the user, unless it is made elsewhere at the same time; says whether it was made here.
async fn make(
    write: &mut Write,
    user: &ForeignUser,
) -> Result<Option<(Known, bool)>, CatalogError> {
    let Some((id, name)) = with_free_name(write, &user.handles).await? else {
        return Ok(None);
    };
    let note = "INSERT INTO identities (issuer, subject, principal_id, claimed_name, created_at, seen_at) \
                VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (issuer, subject) DO NOTHING";
    let values = [
        user.issuer.as_str().into(),
        user.subject.as_str().into(),
        id.into(),
        user.claimed_name.clone().into(),
        write.now.into(),
    ];
    if sql::execute(&write.transaction, note, values).await? == 0 {
        let undo = "DELETE FROM principals WHERE id = $1";
        sql::execute(&write.transaction, undo, [id.into()]).await?;
        return Ok(known(write, user).await?.map(|found| (found, false)));
    }
    count_up(write).await?;
    let made = Known {
        id,
        name,
        state: ACTIVE,
    };
    Ok(Some((made, true)))
}

/// A principal under the first of these names that is free: nobody goes by it, and there is no namespace of that name, whoever
/// has it. People choose what they are called at a provider, and must get nothing by it that is there already.
async fn with_free_name(
    write: &Write,
    handles: &[Handle],
) -> Result<Option<(i64, String)>, CatalogError> {
    for handle in handles {
        let insert = "INSERT INTO principals (kind, handle, name, system_role, state, created_at) \
                      SELECT $1, $2, $2, 0, 0, $3 WHERE NOT EXISTS (SELECT 1 FROM namespaces WHERE name = $2) \
                      ON CONFLICT (handle) DO NOTHING RETURNING id";
        let values = [USER.into(), handle.as_str().into(), write.now.into()];
        let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
        if let Some(Id { id }) = made {
            return Ok(Some((id, handle.to_string())));
        }
    }
    Ok(None)
}

/// Lets a user belong to what its groups are mapped to, and no longer to what they were mapped to before.
async fn belong(
    write: &mut Write,
    (id, name): (i64, &str),
    user: &ForeignUser,
    asker: &Asker,
) -> Result<(), CatalogError> {
    let source = user.issuer.as_str();
    let wanted = mappings::of_groups(write, source, &user.groups).await?;
    let query = "SELECT m.group_id, CAST(m.role AS bigint) AS role, p.name FROM memberships m JOIN principals p ON p.id = m.group_id \
                 WHERE m.member_id = $1 AND m.source = $2 ORDER BY m.group_id";
    let values = [id.into(), source.into()];
    let former: Vec<Belonging> = sql::all(&write.transaction, query, values).await?;
    let mut deeds = Vec::new();
    for (
        group,
        Belongs {
            role,
            organisation,
            name: group_name,
        },
    ) in &wanted
    {
        let is_so = |one: &Belonging| one.group_id == *group && one.role == i64::from(*role);
        if former.iter().any(is_so) {
            continue;
        }
        let join = "INSERT INTO memberships (member_id, group_id, source, organisation_id, role, created_at) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (member_id, group_id, source) DO UPDATE SET role = excluded.role";
        let values = [
            id.into(),
            (*group).into(),
            source.into(),
            (*organisation).into(),
            (*role).into(),
            write.now.into(),
        ];
        sql::execute(&write.transaction, join, values).await?;
        let detail = json!({ "member": name, "role": role, "source": source });
        deeds.push(Deed::new(action::MEMBER_SET, group_name).with(detail));
    }
    for gone in former
        .iter()
        .filter(|one| !wanted.contains_key(&one.group_id))
    {
        let leave =
            "DELETE FROM memberships WHERE member_id = $1 AND group_id = $2 AND source = $3";
        let values = [id.into(), gone.group_id.into(), source.into()];
        sql::execute(&write.transaction, leave, values).await?;
        let detail = json!({ "member": name, "source": source });
        deeds.push(Deed::new(action::MEMBER_REMOVE, &gone.name).with(detail));
    }
    if deeds.is_empty() {
        return Ok(());
    }
    count_up(write).await?;
    for deed in deeds {
        audit::note(write, asker, deed).await?;
    }
    Ok(())
}
