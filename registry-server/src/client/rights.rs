//! `granary grant`, `namespace`, `visibility` and `repository`: who may do what, and where.

use granary_access::{CreateBy, TagPatterns, Visibility};
use granary_oci::RepositoryName;
use indicatif::HumanBytes;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Column, MOST, Session,
    http::Question,
    table::{column, fields},
    whole_seconds,
};
use crate::{
    accounts::tag_patterns,
    cli::client::{GrantCommand, NamespaceArgs, RepositoryCommand, SetVisibilityArgs},
};

const GRANT: &[Column] = &[
    column("ID", "id"),
    column("TO", "to"),
    column("MAY", "verbs"),
    column("IN", "repositories"),
    column("TAGS", "tags").or("all"),
    column("UNTIL", "ends_at").or("no end"),
];

const NAMESPACE: &[Column] = &[
    column("namespace", "namespace"),
    column("owner", "owner").or("nobody: administrators only"),
    column("new ones are", "default_visibility"),
    column("made by", "create_by"),
    column("nobody moves", "immutable_tags").or("any tag"),
    column("licence", "default_license").or("not said"),
    column("bytes", "bytes").or("no limit"),
    column("manifests", "artifacts").or("no limit"),
];

/// `granary grant`
pub(super) async fn grant(session: &Session, command: &GrantCommand) -> anyhow::Result<()> {
    match command {
        GrantCommand::Add { to, grant, expires } => {
            let mut body = json!(grant);
            body["to"] = json!(to);
            if let Some(expires) = expires {
                body["expires_in"] = whole_seconds(*expires)?.into();
            }
            let made = session.ask(Question::post(&["grants"], body)).await?;
            session.tell(&made, &super::table(std::slice::from_ref(&made), GRANT))
        }
        GrantCommand::List { namespace } => {
            let parts = ["namespaces", namespace, "grants"];
            session.tell_list(session.list(&parts, &[], MOST).await?, GRANT)
        }
        GrantCommand::Remove { id } => {
            let number = id.to_string();
            let done = session.ask(Question::delete(&["grants", &number])).await?;
            session.tell(&done, &format!("grant {id} is taken back\n"))
        }
    }
}

/// `granary namespace`
pub(super) async fn namespace(session: &Session, args: &NamespaceArgs) -> anyhow::Result<()> {
    let mut change = Map::new();
    if let Some(owner) = &args.owner {
        change.insert("owner".to_owned(), json!(owner));
    }
    if let Some(visibility) = args.visibility {
        let visibility = json!(Visibility::from(visibility));
        change.insert("default_visibility".to_owned(), visibility);
    }
    if let Some(create_by) = args.create_by {
        change.insert("create_by".to_owned(), json!(CreateBy::from(create_by)));
    }
    if let Some(list) = args.immutable_tags.as_deref() {
        let patterns = match list {
            "" => TagPatterns::none(),
            list => tag_patterns(list)?,
        };
        change.insert("immutable_tags".to_owned(), json!(patterns));
    }
    if let Some(license) = &args.default_license {
        change.insert("default_license".to_owned(), json!(license));
    }
    for (name, quota) in [
        ("quota_bytes", args.quota_bytes),
        ("quota_artifacts", args.quota_artifacts),
    ] {
        change.extend(quota.map(|quota| (name.to_owned(), json!(quota))));
    }
    let parts = ["namespaces", &args.namespace];
    let question = match change.is_empty() {
        true => Question::get(&parts),
        false => Question::new(Method::PATCH, &parts).with(change.into()),
    };
    let found = session.ask(question).await?;
    let mut shown = found.clone();
    shown["bytes"] = of_quota(&found, "bytes", |bytes| HumanBytes(bytes).to_string());
    shown["artifacts"] = of_quota(&found, "artifacts", |number| number.to_string());
    session.tell(&found, &fields(&shown, NAMESPACE))
}

/// What is used of a quota, if there is one.
fn of_quota(namespace: &Value, what: &str, shown: impl Fn(u64) -> String) -> Value {
    let Some(limit) = namespace[format!("quota_{what}")].as_u64() else {
        return Value::Null;
    };
    let used = namespace[format!("used_{what}")].as_u64().unwrap_or(0);
    let counting = match namespace["counting"] == true {
        true => ", and is still being counted",
        false => "",
    };
    format!("{} of {}{counting}", shown(used), shown(limit)).into()
}

/// `granary visibility`
pub(super) async fn visibility(session: &Session, args: &SetVisibilityArgs) -> anyhow::Result<()> {
    let (repository, visibility) = (&args.repository, Visibility::from(args.visibility));
    let parts = path(repository);
    let body = json!({"visibility": visibility});
    let question = Question::new(Method::PATCH, &parts).with(body);
    let done = session.ask(question).await?;
    let seen = match visibility {
        Visibility::Public => "everybody, as far as auth.anonymous says so",
        Visibility::Private => "those only who were given something in it",
    };
    session.tell(&done, &format!("{repository} is seen by {seen}\n"))
}

/// `granary repository`
pub(super) async fn repository(
    session: &Session,
    command: &RepositoryCommand,
) -> anyhow::Result<()> {
    let RepositoryCommand::Remove { repository } = command;
    let done = session.ask(Question::delete(&path(repository))).await?;
    session.tell(&done, &format!("{repository} is removed\n"))
}

/// The path of a repository. Slashes stay what they are: there are proxies that refuse escaped ones.
fn path(repository: &RepositoryName) -> Vec<&str> {
    let name = repository.as_str().split('/');
    std::iter::once("repositories").chain(name).collect()
}
