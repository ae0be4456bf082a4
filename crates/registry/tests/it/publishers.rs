//! Publishers: until when they wait, what they cap, and which of several counts.

use granary_identity::parse_scopes;
use granary_registry::{
    AccountsError, AnonymousMode, IssuerChange, OwnAccount, PublisherRequest, PublishingCommand,
    PublishingReport, Reason, Registry, Shown,
};

use crate::{
    accounts::{pushes, reason, rules, secret, sign_in},
    gate::{run, together},
    groups::{own_robots, robots_of_acme},
    issuer::Issuer,
    workload::{
        add, assert_wrong, by_bearer, ci, exchange, publisher, publishers, publishing, put_tag,
        release, releases, robot,
    },
    world::{is_postgres, open},
};

#[test]
fn a_publisher_waits_for_its_first_use() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let waiting = |waits| PublisherRequest {
            waits: Some(waits),
            ..releases(&issuer)
        };
        let token = issuer.token(&release(&issuer));
        add(registry, waiting(0)).await;
        assert_wrong(by_bearer(registry, &token).await, "it has ended");
        let added = add(registry, waiting(3600)).await;
        assert!(added.expires_at.is_some());
        let who = by_bearer(registry, &token).await.unwrap();
        let used = publishers(registry).await.pop().unwrap();
        assert_eq!((used.id, used.expires_at), (added.id, None));
        assert!(used.used_at.is_some());
        // The repository may be made by the first push.
        put_tag(registry, &who, "acme/new", "v1").await.unwrap();
        // Only what ended long ago is forgotten.
        registry.catalog().forget_identities().await.unwrap();
        assert_eq!(publishers(registry).await.len(), 2);
    });
}

#[test]
fn a_publisher_caps_what_its_robot_may() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let capped = PublisherRequest {
            scopes: Some(vec!["read,write:acme/app:v*".parse().unwrap()]),
            ..releases(&issuer)
        };
        add(registry, capped).await;
        let token = issuer.token(&release(&issuer));
        let job = by_bearer(registry, &token).await.unwrap();
        put_tag(registry, &job, "acme/app", "v1").await.unwrap();
        for (repository, tag) in [
            ("acme/app", "latest"),
            ("acme/app2", "v1"),
            ("acme/a", "v1"),
        ] {
            let refused = reason(put_tag(registry, &job, repository, tag).await);
            assert!(refused.is_some(), "{repository}:{tag}");
        }
        // What it is exchanged for caps the same, and outlives nothing.
        let scopes = parse_scopes("repository:acme/app:pull,push repository:acme/app2:push");
        let issued = registry.issue_token(&job, &scopes, Some("docker")).await;
        let issued = issued.unwrap();
        assert!(issued.refresh.is_none(), "a refresh token");
        assert_eq!(issued.granted.len(), 1);
        let ours = by_bearer(registry, issued.token.expose()).await.unwrap();
        let refused = reason(put_tag(registry, &ours, "acme/app", "latest").await);
        assert!(refused.is_some());
        put_tag(registry, &ours, "acme/app", "v2").await.unwrap();
        // A job makes nothing that outlives it, whatever its scopes.
        for who in [&job, &ours] {
            let own = registry.ask_leave::<OwnAccount>(&who.into(), ()).await;
            assert!(matches!(own, Err(AccountsError::Denied(_))));
        }
        let id = publishers(registry).await[0].id;
        let robots = robots_of_acme(registry).await;
        robots.remove_publisher(id).await.unwrap();
        add(registry, releases(&issuer)).await;
        registry.forget(Shown::Bearer(secret(&token)));
        let wide = by_bearer(registry, &token).await.unwrap();
        put_tag(registry, &wide, "acme/app2", "latest")
            .await
            .unwrap();
        let own = registry.ask_leave::<OwnAccount>(&(&wide).into(), ()).await;
        assert!(matches!(own, Err(AccountsError::Denied(_))));
    });
}

async fn change(
    registry: &Registry,
    named: &str,
    change: IssuerChange,
) -> Result<PublishingReport, AccountsError> {
    let issuer = named.to_owned();
    publishing(registry, PublishingCommand::ChangeIssuer { issuer, change }).await
}

fn keys(issuer: &Issuer) -> IssuerChange {
    IssuerChange {
        has_other_keys: true,
        jwks: Some(issuer.jwks()),
        ..IssuerChange::default()
    }
}

fn audience(text: &str) -> IssuerChange {
    IssuerChange {
        audience: Some(text.to_owned()),
        ..IssuerChange::default()
    }
}

#[test]
fn a_user_takes_no_jobs_from_an_organisation() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        add(registry, releases(&issuer)).await;
        let carol = sign_in(registry, "carol", crate::accounts::password("carol"));
        let hers = own_robots(registry, &carol.await.unwrap()).await;
        hers.create_robot("ci").await.unwrap();
        let wide = || publisher("ci", &issuer, &[("repository", "acme/*")]);
        hers.add_publisher(wide()).await.unwrap();
        let token = issuer.token(&release(&issuer));
        let who = by_bearer(registry, &token).await.unwrap();
        assert_eq!(who.name(), "acme+ci");
        // Who names it is it all the same, and may do what it may.
        let who = sign_in(registry, "carol+ci", secret(&token)).await.unwrap();
        assert_eq!(who.name(), "carol+ci");
        // Nor does he use up the publishers that there may be.
        for _ in 1..50 {
            hers.add_publisher(wide()).await.unwrap();
        }
        let full = hers.add_publisher(wide()).await;
        assert!(matches!(full, Err(AccountsError::Full(50))), "{full:?}");
        add(registry, releases(&issuer)).await;
    });
}

#[test]
fn other_keys_of_an_issuer_end_what_the_former_ones_proved() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        let other = match is_postgres() {
            true => open(world.folder.path(), rules(AnonymousMode::None)).await,
            false => registry.clone(),
        };
        let capped = PublisherRequest {
            scopes: Some(vec!["read,write:acme/app:v*".parse().unwrap()]),
            ..releases(&issuer)
        };
        let added = add(registry, capped).await;
        let token = issuer.token(&release(&issuer));
        let was = by_bearer(&other, &token).await.unwrap();
        put_tag(&other, &was, "acme/app", "v1").await.unwrap();
        let ours = other.issue_token(&was, &[], None).await.unwrap().token;

        let later = Issuer::new(&issuer.url);
        let changed = change(registry, "github", keys(&later)).await.unwrap();
        let PublishingReport::IssuerChanged(changed) = changed else {
            panic!("{changed:?}");
        };
        assert!(changed.given_keys && changed.problem.is_none());

        // What the former key signed counts no longer, nor what was given for it, at no replica.
        let by_ours = by_bearer(&other, ours.expose()).await.unwrap();
        for who in [&was, &by_ours] {
            let refused = reason(put_tag(&other, who, "acme/app", "v2").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
        other.forget(Shown::Bearer(secret(&token)));
        assert_wrong(by_bearer(&other, &token).await, "the former key");
        // The publisher is the same, and caps the same.
        let now = publishers(registry).await;
        assert_eq!((now.len(), now[0].id), (1, added.id));
        assert_eq!(now[0].scopes, added.scopes);
        let token = later.token(&release(&later));
        let who = by_bearer(&other, &token).await.unwrap();
        put_tag(&other, &who, "acme/app", "v2").await.unwrap();
        assert!(put_tag(&other, &who, "acme/app", "latest").await.is_err());

        // Another audience alone leaves the keys.
        let id = changed.id.to_string();
        change(registry, &id, audience("elsewhere")).await.unwrap();
        let refused = reason(put_tag(&other, &who, "acme/app", "v3").await);
        assert_eq!(refused, Some(Reason::Ended));
        other.forget(Shown::Bearer(secret(&token)));
        assert_wrong(by_bearer(&other, &token).await, "another audience");
        change(registry, &id, audience("")).await.unwrap();
        by_bearer(&other, &token).await.unwrap();
    });
}

#[test]
fn what_no_issuer_can_be_changed_to_is_refused() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        for (named, wrong) in [
            (
                "github",
                IssuerChange {
                    jwks: Some("{}".to_owned()),
                    ..keys(&issuer)
                },
            ),
            (
                "github",
                IssuerChange {
                    keys_url: Some("https://a.example".to_owned()),
                    ..keys(&issuer)
                },
            ),
            ("github", audience("a\nb")),
        ] {
            let refused = change(registry, named, wrong).await;
            assert!(
                matches!(refused, Err(AccountsError::InvalidIssuer(_))),
                "{refused:?}"
            );
        }
        for nobody in ["7777", "https://nobody.example"] {
            let refused = change(registry, nobody, audience("a")).await;
            assert!(
                matches!(refused, Err(AccountsError::NoIssuer(_))),
                "{refused:?}"
            );
        }
    });
}

#[test]
fn a_token_of_several_robots_is_none_of_them() {
    let _unset = together();
    run(async {
        let (world, issuer) = ci().await;
        let registry = &world.registry;
        robot(registry, "other").await;
        let wide = publisher("ci", &issuer, &[("repository", "acme/*")]);
        add(registry, wide).await;
        let narrow = PublisherRequest {
            scopes: Some(vec!["read:acme/app".parse().unwrap()]),
            ..releases(&issuer)
        };
        let narrow = add(registry, narrow).await;
        let token = issuer.token(&release(&issuer));
        // Of one robot's the narrowest counts, whatever it caps.
        let who = by_bearer(registry, &token).await.unwrap();
        assert!(pushes(registry, &who, "acme/app").await.is_err());
        let second = publisher("other", &issuer, &[("repository_owner", "acme")]);
        add(registry, second).await;
        registry.forget(Shown::Bearer(secret(&token)));
        assert_wrong(by_bearer(registry, &token).await, "of two robots");
        assert_wrong(exchange(registry, &token, None).await, "of two robots");
        assert_wrong(
            sign_in(registry, "token", secret(&token)).await,
            "of two robots",
        );
        for name in ["acme+ci", "acme+other"] {
            let who = sign_in(registry, name, secret(&token)).await.unwrap();
            assert_eq!(who.name(), name);
            let who = exchange(registry, &token, Some(name)).await.unwrap();
            assert_eq!(who.name(), name);
        }
        let leave = robots_of_acme(registry).await;
        leave.remove_publisher(narrow.id).await.unwrap();
        let who = sign_in(registry, "acme+ci", secret(&token)).await.unwrap();
        // What was remembered has ended.
        assert!(pushes(registry, &who, "acme/app").await.is_err());
    });
}
