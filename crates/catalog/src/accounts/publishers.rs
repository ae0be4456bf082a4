//! Who publishes without a secret: which identity tokens of an issuer that is trusted are which robot.
//!
//! Each publisher owns a credential that has no secret: what it caps stands there, and it ends with the publisher. So whatever
//! is asked of a credential, such as whether it still counts, is asked of a publisher in the same way.

use std::time::Duration;

use granary_access::{
    AnonymousMode, Caller, CredentialId, Origin, Principal, PrincipalId, RobotHandle, Scopes,
};
use sea_orm::FromQueryResult;
use serde_json::{Value as Json, json};

use super::{
    confirm::Asker,
    credentials::{read_scopes, write_scopes},
    groups::{Count, Outcome, Refusal, USER},
    office::{Authority, Decided},
    warm::count_up,
};
use crate::{
    Catalog, CatalogError,
    audit::{self, Deed, action},
    dialect::micros,
    sql::{self, Id, signed},
    writer::Write,
};

/// `credentials.kind` of a publisher's.
const PUBLISHER: i16 = 5;
/// Most publishers of an issuer, which are all looked at for a token of it.
const MOST_OF_ISSUER: u64 = 10_000;
/// Most publishers of a robot.
const MOST_OF_ROBOT: u64 = 100;
/// Most publishers of an issuer for all robots of an organisation, so that none uses up what the others need.
const MOST_OF_ORGANISATION: u64 = 1_000;
/// The same of a user.
const MOST_OF_USER: u64 = 50;
/// For how long an identity token that was used is remembered after its end, as clocks differ.
const CLOCKS: Duration = Duration::from_secs(300);
/// For how long a publisher is listed that ended before it was used.
const LISTED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A publisher to add.
#[derive(Clone, Debug)]
pub struct NewPublisher {
    /// Which robot its tokens are.
    pub robot: RobotHandle,
    /// The identifier of an issuer that is trusted.
    pub issuer: String,
    /// What claims must be, as a JSON object.
    pub claims: Json,
    /// What it caps.
    pub scopes: Scopes,
    /// Whether each token counts once.
    pub once: bool,
    /// How long it waits for its first use; for ever if it is not said.
    pub waits: Option<Duration>,
}

/// A publisher as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPublisher {
    /// Its number.
    pub id: i64,
    /// The identifier of its issuer.
    pub issuer: String,
    /// Which robot it is.
    pub robot: PrincipalId,
    /// The robot's name.
    pub name: String,
    /// Whether the robot is a user's, and no organisation's.
    pub is_users: bool,
    /// What claims must be, as a JSON object.
    pub claims: String,
    /// Its credential.
    pub credential: CredentialId,
    /// What it caps.
    pub scopes: Scopes,
    /// Whether each token counts once.
    pub once: bool,
    /// When it was added, in microseconds since 1970.
    pub created_at: i64,
    /// When it ends if it was not used before.
    pub expires_at: Option<i64>,
    /// When it was used first.
    pub used_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct PublisherRow {
    id: i64,
    issuer: String,
    robot_id: i64,
    name: String,
    owner_kind: i64,
    claims: String,
    credential_id: i64,
    scopes: Option<String>,
    once: bool,
    created_at: i64,
    expires_at: Option<i64>,
    used_at: Option<i64>,
}

impl PublisherRow {
    fn read(self) -> Result<StoredPublisher, CatalogError> {
        Ok(StoredPublisher {
            id: self.id,
            issuer: self.issuer,
            robot: PrincipalId(self.robot_id),
            name: self.name,
            is_users: self.owner_kind == USER,
            claims: self.claims,
            credential: CredentialId(self.credential_id),
            scopes: read_scopes(self.scopes.as_deref())?,
            once: self.once,
            created_at: self.created_at,
            expires_at: self.expires_at,
            used_at: self.used_at,
        })
    }
}

/// An identity token that was verified, and the publisher it matches.
#[derive(Clone, Debug)]
pub struct IdentityUse {
    /// Of which issuer.
    pub issuer: i64,
    /// The publisher's number.
    pub publisher: i64,
    /// Who it is by that publisher.
    pub principal: Principal,
    /// From where it came.
    pub origin: Origin,
    /// SHA-256 of its `jti`, if it counts once.
    pub once: Option<[u8; 32]>,
    /// When it ends, in microseconds since 1970.
    pub ends_at: i64,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityTaken {
    /// It counts.
    Yes,
    /// It was used before.
    Again,
    /// The publisher is gone, or ended before its first use.
    Ended,
}

/// Publishers that count, or would once they are used.
const PUBLISHERS: &str = "SELECT p.id, i.issuer, p.robot_id, r.name, CAST(w.kind AS bigint) AS owner_kind, p.claims, p.credential_id, c.scopes, p.once, p.created_at, \
            p.expires_at, p.used_at FROM publishers p JOIN trusted_issuers i ON i.id = p.issuer_id \
     JOIN principals r ON r.id = p.robot_id AND r.state <> 2 \
     JOIN principals w ON w.id = r.owner_id \
     JOIN credentials c ON c.id = p.credential_id AND c.revoked_at IS NULL";

impl Catalog {
    /// The publishers of an issuer that count, or would once they are used.
    pub async fn publishers_of_issuer(
        &self,
        issuer: i64,
    ) -> Result<Vec<StoredPublisher>, CatalogError> {
        let query = format!("{PUBLISHERS} WHERE p.issuer_id = $1 ORDER BY p.id");
        let rows: Vec<PublisherRow> = self.reads.all(&query, [issuer.into()]).await?;
        rows.into_iter().map(PublisherRow::read).collect()
    }

    /// Up to `limit` publishers of robots of an organisation or user, with numbers above `after`.
    pub async fn publishers(
        &self,
        owner: &str,
        after: i64,
        limit: u64,
    ) -> Result<Vec<StoredPublisher>, CatalogError> {
        let query = format!(
            "{PUBLISHERS} JOIN principals o ON o.id = r.owner_id AND o.handle = $1 WHERE p.id > $2 ORDER BY p.id LIMIT $3"
        );
        let values = [owner.into(), after.into(), signed(limit).into()];
        let rows: Vec<PublisherRow> = self.reads.all(&query, values).await?;
        rows.into_iter().map(PublisherRow::read).collect()
    }

    /// Adds a publisher; `None` if its issuer is not trusted.
    pub async fn add_publisher(
        &self,
        by: &Authority,
        new: NewPublisher,
    ) -> Result<Decided<Outcome<Option<StoredPublisher>>>, CatalogError> {
        let scopes = write_scopes(&new.scopes)?;
        self.decided(by, async move |write, by| add(write, by, new, scopes).await)
            .await
    }

    /// Removes a publisher, and ends what was signed in by it; `false` if there is none of that number, or its robot is not
    /// `owner`'s where one is named.
    pub async fn remove_publisher(
        &self,
        by: &Authority,
        owner: Option<&str>,
        id: i64,
    ) -> Result<Decided<bool>, CatalogError> {
        let owner = owner.map(str::to_owned);
        self.decided(by, async move |write, by| {
            let find = "SELECT p.credential_id AS id, r.name FROM publishers p JOIN principals r ON r.id = p.robot_id \
                        JOIN principals o ON o.id = r.owner_id WHERE p.id = $1 AND o.handle = COALESCE($2, o.handle)";
            let values = [id.into(), owner.into()];
            let found: Option<Named> = sql::one(&write.transaction, find, values).await?;
            let Some(found) = found else {
                return Ok(false);
            };
            let end = "UPDATE credentials SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
            let values = [found.id.into(), write.now.into()];
            sql::execute(&write.transaction, end, values).await?;
            let delete = "DELETE FROM publishers WHERE id = $1";
            sql::execute(&write.transaction, delete, [id.into()]).await?;
            count_up(write).await?;
            let deed = Deed::new(action::PUBLISHER_CHANGE, format!("{}#{id}", found.name));
            by.note(write, deed.with(json!({ "state": "removed" }))).await?;
            Ok(true)
        })
        .await
    }

    /// Takes an identity token: notes the first use of its publisher, and that it was used where it counts once.
    pub async fn take_identity(&self, used: IdentityUse) -> Result<IdentityTaken, CatalogError> {
        self.write(async move |write| take(write, used).await).await
    }

    /// Forgets identity tokens that have ended, and publishers that ended unused a while ago.
    pub async fn forget_identities(&self) -> Result<u64, CatalogError> {
        self.write(async move |write| {
            let until = write.now - micros(LISTED);
            let end = "UPDATE credentials SET revoked_at = $2 WHERE revoked_at IS NULL \
                       AND id IN (SELECT credential_id FROM publishers WHERE used_at IS NULL AND expires_at < $1)";
            sql::execute(&write.transaction, end, [until.into(), write.now.into()]).await?;
            let delete = "DELETE FROM publishers WHERE used_at IS NULL AND expires_at < $1";
            sql::execute(&write.transaction, delete, [until.into()]).await?;
            let forget = "DELETE FROM used_identities WHERE expires_at < $1";
            sql::execute(&write.transaction, forget, [write.now.into()]).await
        })
        .await
    }
}

#[derive(FromQueryResult)]
struct Named {
    id: i64,
    name: String,
}

/// Whether there are as many as there may be.
pub(super) async fn is_full(
    write: &Write,
    (count, of): (&str, &[i64]),
    most: u64,
) -> Result<bool, CatalogError> {
    let values = of.iter().map(|id| (*id).into());
    let found: Option<Count> = sql::one(&write.transaction, count, values).await?;
    Ok(found.is_some_and(|found| sql::unsigned(found.number) >= most))
}

/// A robot, and whose it is.
#[derive(FromQueryResult)]
struct WhoseRow {
    robot: i64,
    owner: i64,
    kind: i64,
}

impl WhoseRow {
    fn is_users(&self) -> bool {
        self.kind == USER
    }
}

/// Locks a robot.
async fn whose(write: &Write, robot: &RobotHandle) -> Result<Option<WhoseRow>, CatalogError> {
    let lock = format!(
        "SELECT r.id AS robot, o.id AS owner, CAST(o.kind AS bigint) AS kind FROM principals r \
         JOIN principals o ON o.id = r.owner_id WHERE r.handle = $1 AND r.kind = 2 AND r.state <> 2{}",
        write.dialect.lock("r")
    );
    sql::one(&write.transaction, &lock, [robot.as_str().into()]).await
}

/// Why a robot gets no further publisher of an issuer.
async fn full(
    write: &Write,
    whose: &WhoseRow,
    issuer: i64,
) -> Result<Option<Refusal>, CatalogError> {
    let most_of_owner = match whose.is_users() {
        true => MOST_OF_USER,
        false => MOST_OF_ORGANISATION,
    };
    for (count, of, most) in [
        (
            "SELECT COUNT(*) AS number FROM publishers WHERE robot_id = $1",
            &[whose.robot][..],
            MOST_OF_ROBOT,
        ),
        (
            "SELECT COUNT(*) AS number FROM publishers p JOIN principals r ON r.id = p.robot_id \
             WHERE p.issuer_id = $1 AND r.owner_id = $2",
            &[issuer, whose.owner],
            most_of_owner,
        ),
        (
            "SELECT COUNT(*) AS number FROM publishers WHERE issuer_id = $1",
            &[issuer],
            MOST_OF_ISSUER,
        ),
    ] {
        if is_full(write, (count, of), most).await? {
            return Ok(Some(Refusal::Full(most)));
        }
    }
    Ok(None)
}

async fn add(
    write: &mut Write,
    by: &Authority,
    new: NewPublisher,
    scopes: Option<String>,
) -> Result<Outcome<Option<StoredPublisher>>, CatalogError> {
    let Some(whose) = whose(write, &new.robot).await? else {
        return Ok(Err(Refusal::NoSuch(new.robot.to_string())));
    };
    let issuer = format!(
        "SELECT id FROM trusted_issuers WHERE issuer = $1{}",
        write.dialect.keep("trusted_issuers")
    );
    let issuer: Option<Id> =
        sql::one(&write.transaction, &issuer, [new.issuer.as_str().into()]).await?;
    let Some(Id { id: issuer }) = issuer else {
        return Ok(Ok(None));
    };
    if let Some(full) = full(write, &whose, issuer).await? {
        return Ok(Err(full));
    }
    let robot = whose.robot;
    let credential = add_credential(write, by, (robot, &new.issuer), scopes).await?;
    let (claims, expires_at) = (
        new.claims.to_string(),
        new.waits
            .map(|waits| write.now.saturating_add(micros(waits))),
    );
    let insert = "INSERT INTO publishers (issuer_id, robot_id, credential_id, claims, once, created_at, created_by, expires_at) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
    let values = [
        issuer.into(),
        robot.into(),
        credential.into(),
        claims.as_str().into(),
        new.once.into(),
        write.now.into(),
        by.author().into(),
        expires_at.into(),
    ];
    let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    let id = made.ok_or_else(no_row)?.id;
    count_up(write).await?;
    let detail = json!({
        "state": "added",
        "issuer": new.issuer,
        "claims": new.claims,
        "scopes": new.scopes,
        "once": new.once,
        "expires_at": expires_at,
    });
    let deed = Deed::new(action::PUBLISHER_CHANGE, format!("{}#{id}", new.robot));
    by.note(write, deed.with(detail)).await?;
    Ok(Ok(Some(StoredPublisher {
        id,
        issuer: new.issuer,
        robot: PrincipalId(robot),
        name: new.robot.to_string(),
        is_users: whose.is_users(),
        claims,
        credential: CredentialId(credential),
        scopes: new.scopes,
        once: new.once,
        created_at: write.now,
        expires_at,
        used_at: None,
    })))
}

/// What stands for the publisher wherever a credential is asked for.
async fn add_credential(
    write: &Write,
    by: &Authority,
    (robot, issuer): (i64, &str),
    scopes: Option<String>,
) -> Result<i64, CatalogError> {
    let insert = "INSERT INTO credentials (principal_id, kind, name, scopes, created_at, created_by) \
                  VALUES ($1, $2, $3, $4, $5, $6) RETURNING id";
    let values = [
        robot.into(),
        PUBLISHER.into(),
        issuer.into(),
        scopes.into(),
        write.now.into(),
        by.author().into(),
    ];
    let made: Option<Id> = sql::one(&write.transaction, insert, values).await?;
    Ok(made.ok_or_else(no_row)?.id)
}

fn no_row() -> CatalogError {
    CatalogError::damaged("publishers", "an insert returned no row")
}

async fn take(write: &mut Write, used: IdentityUse) -> Result<IdentityTaken, CatalogError> {
    if let Some(jti) = used.once {
        let insert = "INSERT INTO used_identities (issuer_id, jti, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let until = used.ends_at.saturating_add(micros(CLOCKS));
        let values = [used.issuer.into(), jti.to_vec().into(), until.into()];
        if sql::execute(&write.transaction, insert, values).await? == 0 {
            return Ok(IdentityTaken::Again);
        }
    }
    let first = "UPDATE publishers SET used_at = $2 WHERE id = $1 AND used_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";
    let values = [used.publisher.into(), write.now.into()];
    if sql::execute(&write.transaction, first, values).await? == 0 {
        let stands = "SELECT id FROM publishers WHERE id = $1 AND used_at IS NOT NULL";
        let stands: Option<Id> =
            sql::one(&write.transaction, stands, [used.publisher.into()]).await?;
        return Ok(match stands {
            Some(_) => IdentityTaken::Yes,
            None => IdentityTaken::Ended,
        });
    }
    count_up(write).await?;
    let target = format!("{}#{}", used.principal.name(), used.publisher);
    let deed = Deed::new(action::PUBLISHER_CHANGE, target).with(json!({ "state": "used" }));
    let caller = Caller {
        principal: used.principal,
        origin: used.origin,
    };
    audit::note(write, &Asker::new(caller, AnonymousMode::None), deed).await?;
    Ok(IdentityTaken::Yes)
}

/// Whether a credential is a publisher's: nothing is made from it that outlives the identity token at hand.
pub(super) async fn is_publishers(
    write: &Write,
    credential: CredentialId,
) -> Result<bool, CatalogError> {
    let query = "SELECT id FROM credentials WHERE id = $1 AND kind = 5";
    let found: Option<Id> = sql::one(&write.transaction, query, [credential.0.into()]).await?;
    Ok(found.is_some())
}
