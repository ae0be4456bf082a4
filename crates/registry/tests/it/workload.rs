//! Publishing without a secret: which identity tokens are which robot, and until when.

use std::collections::BTreeMap;

use granary_access::Role;
use granary_registry::{
    AccountsCommand, AccountsError, AccountsReport, AnonymousMode, GroupsCommand, IssuerRequest,
    ManifestRequest, OrganisationAdmin, Origin, PageRequest, Precondition, Principal,
    PublisherReport, PublisherRequest, PublishingCommand, PublishingReport, Reason, Registry,
    RegistryError, RobotOwner, Shown, SignInError,
};
use serde_json::{Value, json};

use crate::{
    accounts::{bob, pushes, reason, rules, secret, sign_in},
    gate::{run, together},
    groups::{acme, found, leave, operator, robots_of_acme},
    issuer::{Issuer, now, with},
    world::{World, image, is_postgres, open},
};

const GITHUB: &str = "https://token.actions.githubusercontent.com";

pub(crate) async fn publishing(
    registry: &Registry,
    command: PublishingCommand,
) -> Result<PublishingReport, AccountsError> {
    let command = AccountsCommand::Publishing(command);
    match registry.administer(command).await? {
        AccountsReport::Publishing(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

/// Trusts an issuer, and says its number.
async fn trust(registry: &Registry, issuer: &Issuer, preset: &str) -> i64 {
    let request = IssuerRequest {
        issuer: issuer.url.clone(),
        preset: Some(preset.to_owned()),
        audience: None,
        keys_url: None,
        jwks: Some(issuer.jwks()),
    };
    let added = publishing(registry, PublishingCommand::AddIssuer(request)).await;
    match added.unwrap() {
        PublishingReport::IssuerAdded(report) => {
            assert_eq!(
                (report.problem, report.audience.as_str()),
                (None, "granary")
            );
            report.id
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn publisher(robot: &str, issuer: &Issuer, claims: &[(&str, &str)]) -> PublisherRequest {
    let claims = claims.iter();
    PublisherRequest {
        robot: robot.to_owned(),
        issuer: issuer.url.clone(),
        claims: claims
            .map(|(name, pattern)| ((*name).to_owned(), (*pattern).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        scopes: None,
        once: false,
        waits: None,
    }
}

pub(crate) async fn add(registry: &Registry, request: PublisherRequest) -> PublisherReport {
    let robots = robots_of_acme(registry).await;
    robots.add_publisher(request).await.unwrap()
}

pub(crate) async fn publishers(registry: &Registry) -> Vec<PublisherReport> {
    let page = PageRequest::longest(String::new());
    let robots = robots_of_acme(registry).await;
    let page = robots.publishers(page).await.unwrap();
    assert_eq!(page.next, None);
    page.entries
}

pub(crate) async fn robot(registry: &Registry, name: &str) {
    let robots = robots_of_acme(registry).await;
    let robot = robots.create_robot(name).await.unwrap();
    let bob = bob(registry).await;
    let admin = leave::<OrganisationAdmin>(registry, &bob, "acme".to_owned()).await;
    admin.set_member(&robot, Role::Write).await.unwrap();
}

/// acme with the robot acme+ci, which may write there, and an issuer like GitHub that is trusted.
pub(crate) async fn ci() -> (World, Issuer) {
    let world = acme().await;
    robot(&world.registry, "ci").await;
    let issuer = Issuer::new(GITHUB);
    trust(&world.registry, &issuer, "github").await;
    (world, issuer)
}

pub(crate) fn release(issuer: &Issuer) -> Value {
    issuer.github("acme/app", "refs/tags/v1")
}

/// Publishers of releases of acme/app.
pub(crate) fn releases(issuer: &Issuer) -> PublisherRequest {
    let claims = [("repository", "acme/app"), ("ref", "refs/tags/v*")];
    publisher("ci", issuer, &claims)
}

pub(crate) async fn by_bearer(registry: &Registry, token: &str) -> Result<Principal, SignInError> {
    let shown = Shown::Bearer(secret(token));
    registry.sign_in(shown, &Origin::default()).await
}

pub(crate) async fn exchange(
    registry: &Registry,
    token: &str,
    user: Option<&str>,
) -> Result<Principal, SignInError> {
    let token = secret(token);
    registry
        .sign_in_by_identity(&token, user, &Origin::default())
        .await
}

#[track_caller]
pub(crate) fn assert_wrong(signed_in: Result<Principal, SignInError>, what: &str) {
    assert!(
        matches!(signed_in, Err(SignInError::Wrong)),
        "{what}: {signed_in:?}"
    );
}

pub(crate) async fn put_tag(
    registry: &Registry,
    who: &Principal,
    repository: &str,
    tag: &str,
) -> Result<(), RegistryError> {
    let request = ManifestRequest {
        reference: tag.parse().unwrap(),
        tags: Vec::new(),
        content_type: None,
        precondition: Precondition::None,
        body: image(&[]),
    };
    let may = pushes(registry, who, repository).await?;
    may.put_manifest(request).await.map(drop)
}

#[test]
fn jobs_of_every_kind_are_the_robot_that_their_claims_say() {
    let _unset = together();
    run(async {
        let world = acme().await;
        let registry = &world.registry;
        robot(registry, "ci").await;
        let (github, gitlab) = (Issuer::new(GITHUB), Issuer::new("https://gitlab.com"));
        let cluster = Issuer::new("https://kubernetes.default.svc.cluster.local");
        let plain = Issuer::new("https://forge.example/jobs");
        let forge = json!({
            "iss": plain.url, "sub": "organization:acme:project:app", "aud": ["other", "granary"], "azp": "granary",
            "exp": now() + 60,
        });
        /// An issuer, its preset, the claims of its publisher, and what a token of it says.
        type Kind<'a> = (&'a Issuer, &'a str, &'a [(&'a str, &'a str)], Value);
        let kinds: [Kind<'_>; 4] = [
            (
                &github,
                "github",
                &[("repository", "acme/app"), ("ref", "refs/tags/v*")],
                release(&github),
            ),
            (
                &gitlab,
                "gitlab",
                &[("project_path", "acme/app"), ("ref_protected", "true")],
                gitlab.gitlab("acme/app"),
            ),
            (
                &cluster,
                "kubernetes",
                &[("sub", "system:serviceaccount:prod:pusher")],
                cluster.kubernetes("prod", "pusher"),
            ),
            (&plain, "plain", &[("sub", "organization:acme:*")], forge),
        ];
        for (issuer, preset, claims, says) in kinds {
            trust(registry, issuer, preset).await;
            let token = issuer.token(&says);
            assert_wrong(by_bearer(registry, &token).await, "nobody's yet");
            let added = add(registry, publisher("ci", issuer, claims)).await;
            assert_eq!((added.robot.as_str(), added.used_at), ("acme+ci", None));
            let bearer = by_bearer(registry, &token).await.unwrap();
            assert_eq!(bearer.name(), "acme+ci");
            for user in ["token", "acme+ci"] {
                let basic = sign_in(registry, user, secret(&token)).await.unwrap();
                assert_eq!(basic, bearer, "{preset}");
            }
            assert_eq!(exchange(registry, &token, None).await.unwrap(), bearer);
            for user in ["bob", "acme", "acme+c", ""] {
                assert_wrong(sign_in(registry, user, secret(&token)).await, user);
            }
            put_tag(registry, &bearer, "acme/app", "v").await.unwrap();
            let refused = reason(pushes(registry, &bearer, "bob/app").await);
            assert_eq!(refused, Some(Reason::Hidden));
        }
        let all = publishers(registry).await;
        assert_eq!(all.len(), 4);
        assert!(all.iter().all(|publisher| publisher.used_at.is_some()));
    });
}

#[test]
fn a_token_that_is_not_quite_right_is_nobody() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let narrow = publisher(
            "ci",
            &issuer,
            &[
                ("repository", "acme/app"),
                ("ref", "refs/tags/v*"),
                ("environment", "release"),
            ],
        );
        add(registry, narrow).await;
        let good = with(release(&issuer), json!({"environment": "release"}));
        by_bearer(registry, &issuer.token(&good)).await.unwrap();
        for change in [
            json!({"aud": "granary.example"}),
            json!({"aud": ["granary.example"]}),
            json!({"aud": null}),
            json!({"iss": "https://token.actions.githubusercontent.com/"}),
            json!({"iss": "https://token.actions.githubusercontent.example"}),
            json!({"iss": null}),
            json!({"exp": now() - 3600}),
            json!({"exp": null}),
            json!({"iat": now() + 3600}),
            json!({"nbf": now() + 3600}),
            // Good for more than a day.
            json!({"exp": now() + 2 * 86_400}),
            json!({"exp": now() + 2 * 86_400, "iat": null}),
            json!({"sub": null}),
            json!({"repository": "acme/app2"}),
            json!({"repository": "acme/ap"}),
            json!({"repository": "Acme/app"}),
            json!({"repository": "mallory/acme/app"}),
            json!({"repository": null}),
            json!({"ref": "refs/heads/v1"}),
            json!({"ref": "refs/tags/w1"}),
            json!({"environment": "releases"}),
            json!({"environment": null}),
            json!({"environment": {"name": "release"}}),
        ] {
            let token = issuer.token(&with(good.clone(), change.clone()));
            let what = change.to_string();
            assert_wrong(by_bearer(registry, &token).await, &what);
            assert_wrong(sign_in(registry, "token", secret(&token)).await, &what);
            assert_wrong(exchange(registry, &token, None).await, &what);
        }
        // The same name, and another key.
        let stranger = Issuer::new(GITHUB).token(&good);
        assert_wrong(by_bearer(registry, &stranger).await, "another key");
        // What is no identity token is exchanged for nothing.
        let signed = registry
            .issue_token(&bob(registry).await, &[], None)
            .await
            .unwrap();
        assert_wrong(exchange(registry, signed.token.expose(), None).await, "own");
        assert_wrong(exchange(registry, "grn_t_none", None).await, "nothing");
    });
}

#[test]
fn a_token_counts_once_where_its_publisher_says_so() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let once = PublisherRequest {
            once: true,
            ..releases(&issuer)
        };
        add(registry, once).await;
        let numbered = |id: Value| issuer.token(&with(release(&issuer), json!({ "jti": id })));
        let first = numbered(json!("a"));
        let who = exchange(registry, &first, None).await.unwrap();
        assert_wrong(exchange(registry, &first, None).await, "again");
        assert_wrong(by_bearer(registry, &first).await, "again, elsewhere");
        assert_wrong(
            sign_in(registry, "token", secret(&first)).await,
            "as a password",
        );
        // Whoever it was goes on by what it was exchanged for.
        let ours = registry.issue_token(&who, &[], None).await.unwrap();
        for _ in 0..2 {
            let by = by_bearer(registry, ours.token.expose()).await.unwrap();
            assert_eq!(by.name(), "acme+ci");
        }
        assert_wrong(
            exchange(registry, &numbered(Value::Null), None).await,
            "without a number",
        );
        let second = numbered(json!("b"));
        by_bearer(registry, &second).await.unwrap();
        assert_wrong(by_bearer(registry, &second).await, "again");
        if is_postgres() {
            let other = open(world.folder.path(), rules(AnonymousMode::None)).await;
            assert_wrong(exchange(&other, &second, None).await, "at another replica");
        }
        // Forgetting what has ended forgets none of these.
        registry.catalog().forget_identities().await.unwrap();
        assert_wrong(exchange(registry, &second, None).await, "later");
    });
}

#[test]
fn whatever_is_withdrawn_counts_no_longer_at_the_next_request() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let other = match is_postgres() {
            true => open(world.folder.path(), rules(AnonymousMode::None)).await,
            false => registry.clone(),
        };
        let token = issuer.token(&release(&issuer));
        let signed_in = async || {
            let who = by_bearer(&other, &token).await.unwrap();
            assert!(pushes(&other, &who, "acme/app").await.is_ok());
            let ours = other.issue_token(&who, &[], None).await.unwrap();
            (who, ours.token)
        };
        let has_ended = async |(who, ours): (Principal, granary_identity::Secret)| {
            let by_ours = by_bearer(&other, ours.expose()).await.unwrap();
            for who in [&who, &by_ours] {
                let refused = reason(pushes(&other, who, "acme/app").await);
                assert_eq!(refused, Some(Reason::Ended));
            }
            // As the edge does.
            other.forget(Shown::Bearer(secret(&token)));
            assert_wrong(by_bearer(&other, &token).await, "after the end");
        };
        let id = add(registry, releases(&issuer)).await.id;
        let was = signed_in().await;
        let robots = robots_of_acme(registry).await;
        robots.remove_publisher(id).await.unwrap();
        has_ended(was).await;
        add(registry, releases(&issuer)).await;
        let was = signed_in().await;
        robots.remove_robot("ci").await.unwrap();
        has_ended(was).await;
        assert!(publishers(registry).await.is_empty());
        // A robot of the same name gets nothing of it.
        robot(registry, "ci").await;
        assert_wrong(by_bearer(&other, &token).await, "another robot");
        add(registry, releases(&issuer)).await;
        let was = signed_in().await;
        let all = publishing(registry, PublishingCommand::Issuers).await;
        let Ok(PublishingReport::Issuers { issuers }) = all else {
            panic!("{all:?}");
        };
        let issuer = issuers[0].id.to_string();
        let remove = PublishingCommand::RemoveIssuer { issuer };
        publishing(registry, remove.clone()).await.unwrap();
        has_ended(was).await;
        let again = publishing(registry, remove).await;
        assert!(matches!(again, Err(AccountsError::NoIssuer(_))));
    });
}

#[test]
fn what_would_match_everybody_or_belongs_to_others_is_refused() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let robots = robots_of_acme(registry).await;
        for claims in [
            &[("ref", "refs/heads/main")][..],
            &[("repository", "*")],
            &[("repository", "acme*")],
            &[],
            &[("repository", "")],
        ] {
            let refused = robots.add_publisher(publisher("ci", &issuer, claims)).await;
            assert!(
                matches!(refused, Err(AccountsError::Claims(_))),
                "{claims:?} {refused:?}"
            );
        }
        let unknown = Issuer::new("https://nobody.example");
        let refused = robots.add_publisher(releases(&unknown)).await;
        assert!(matches!(refused, Err(AccountsError::NoSuchIssuer(_))));
        let nobody = publisher("cj", &issuer, &[("repository", "acme/app")]);
        let refused = robots.add_publisher(nobody).await;
        assert!(matches!(refused, Err(AccountsError::NoSuch(_))));
        let account = PublisherRequest {
            scopes: Some(vec!["read,account:**".parse().unwrap()]),
            ..releases(&issuer)
        };
        let refused = robots.add_publisher(account).await;
        assert!(matches!(refused, Err(AccountsError::PublisherScopes)));
        let twice = IssuerRequest {
            issuer: "github".to_owned(),
            preset: None,
            audience: Some("elsewhere".to_owned()),
            keys_url: None,
            jwks: None,
        };
        let refused = publishing(registry, PublishingCommand::AddIssuer(twice)).await;
        assert!(matches!(refused, Err(AccountsError::IssuerTaken(_))));
        assert!(publishers(registry).await.is_empty());
        // A publisher of one organisation is none of another's.
        let id = add(registry, releases(&issuer)).await.id;
        found(registry, "others", "carol").await;
        let create = GroupsCommand::CreateRobot {
            organisation: "others".to_owned(),
            robot: "ci".to_owned(),
        };
        operator(registry, create).await;
        let carol = sign_in(registry, "carol", crate::accounts::password("carol")).await;
        let theirs = leave::<RobotOwner>(registry, &carol.unwrap(), "others".to_owned()).await;
        let refused = theirs.remove_publisher(id).await;
        assert!(matches!(refused, Err(AccountsError::NoSuchPublisher(_))));
        let page = PageRequest::longest(String::new());
        assert!(theirs.publishers(page).await.unwrap().entries.is_empty());
        assert_eq!(publishers(registry).await.len(), 1);
    });
}
