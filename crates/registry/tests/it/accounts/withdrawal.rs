//! What is withdrawn counts no longer, whoever remembers it and however far the request is.

use granary_access::Visibility;
use granary_identity::parse_scopes;
use granary_oci::{Digest, Reference, Tag};
use granary_registry::{AccountsCommand, AnonymousMode, Chunk, Origin, Principal, Reason, Shown};

use super::{
    bob, image_of_bob, manifest, pushes, reads, reason, revoke, rules, secret, sign_in, token,
    world,
};
use crate::{
    audit::sql::Sql,
    gate::{Gate, alone, run, together},
    world::{body, content, is_postgres, name, open},
};

#[test]
fn a_withdrawn_token_counts_no_longer_at_the_next_request() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        for _ in 0..20 {
            let (id, token) = token(registry).await;
            let who = sign_in(registry, "bob", token.clone()).await.unwrap();
            for _ in 0..3 {
                assert!(reads(registry, &who, "bob/app").await.is_ok());
            }
            revoke(registry, id).await;
            // What it proved is remembered; whether it counts is not.
            let who = sign_in(registry, "bob", token).await.unwrap();
            let refused = reason(reads(registry, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
        let former = bob(registry).await;
        let command = AccountsCommand::SetPassword {
            user: "bob".to_owned(),
            password: secret("something else"),
        };
        registry.administer(command).await.unwrap();
        let refused = reason(reads(registry, &former, "bob/app").await);
        assert_eq!(refused, Some(Reason::Ended));
        let who = sign_in(registry, "bob", secret("something else"))
            .await
            .unwrap();
        assert!(reads(registry, &who, "bob/app").await.is_ok());
    });
}

#[test]
fn a_token_withdrawn_while_a_manifest_is_put_stops_it() {
    alone(async {
        let world = world().await;
        let registry = &world.registry;
        let layer = image_of_bob(registry, "v").await;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let may = pushes(registry, &who, "bob/app").await.unwrap();
        let gate = Gate::shut("manifest::before_put");
        let put = tokio::spawn(async move { may.put_manifest(manifest("later", layer)).await });
        gate.reached().await;
        revoke(registry, id).await;
        gate.open();
        assert_eq!(reason(put.await.unwrap()), Some(Reason::Ended));
        let may = reads(registry, &bob(registry).await, "bob/app")
            .await
            .unwrap();
        assert_eq!(may.tags("", 10).await.unwrap(), ["v"]);
    });
}

#[test]
fn a_token_withdrawn_while_a_blob_is_closed_stops_it() {
    alone(async {
        let world = world().await;
        let registry = &world.registry;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let may = pushes(registry, &who, "bob/app").await.unwrap();
        let session = may.begin_upload(None).await.unwrap().id;
        let bytes = content(1, 300);
        let digest = Digest::sha256(&bytes);
        let gate = Gate::shut("upload::before_finish");
        let closing = tokio::spawn(async move {
            let chunk = Chunk::default();
            may.finish_upload(&session, digest, chunk, body(bytes))
                .await
        });
        gate.reached().await;
        revoke(registry, id).await;
        gate.open();
        assert_eq!(reason(closing.await.unwrap()), Some(Reason::Ended));
        let refused = reason(reads(registry, &bob(registry).await, "bob/app").await);
        assert_eq!(
            refused,
            Some(Reason::Missing),
            "the repository was not made"
        );
    });
}

#[test]
fn what_was_made_from_a_credential_ends_with_it() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        image_of_bob(registry, "v").await;
        let (id, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let scopes = parse_scopes("repository:bob/app:pull repository:alice/app:pull,push");
        let issued = registry
            .issue_token(&who, &scopes, Some("test"))
            .await
            .unwrap();
        assert_eq!(issued.granted.len(), 1, "{:?}", issued.granted);
        let refresh = issued.refresh.unwrap();
        let nowhere = Origin::default();
        let bearer = || registry.sign_in(Shown::Bearer(issued.token.clone()), &nowhere);
        let by_token = bearer().await.unwrap();
        assert!(reads(registry, &by_token, "bob/app").await.is_ok());
        let refused = reason(pushes(registry, &by_token, "bob/app").await);
        assert_eq!(refused, Some(Reason::TokenTooNarrow));
        let again = registry.sign_in_again(&refresh).await.unwrap();
        let further = registry.issue_token(&again, &scopes, None).await.unwrap();
        assert!(further.refresh.is_none());
        revoke(registry, id).await;
        for who in [by_token, bearer().await.unwrap(), again] {
            let refused = reason(reads(registry, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
        let again = registry.sign_in_again(&refresh).await.unwrap();
        let refused = reason(registry.issue_token(&again, &scopes, None).await);
        assert_eq!(refused, Some(Reason::Ended));
    });
}

/// A log-in of docker keeps a refresh token each time.
#[test]
fn refresh_tokens_have_a_bound() {
    let _unset = together();
    run(async {
        let world = world().await;
        let registry = &world.registry;
        let (_, token) = token(registry).await;
        let who = sign_in(registry, "bob", token).await.unwrap();
        let refresh = async || {
            let issued = registry.issue_token(&who, &[], Some("test")).await.unwrap();
            issued.refresh.unwrap()
        };
        let first = refresh().await;
        let sql = Sql::of(world.folder.path()).await;
        sql.run(
            "INSERT INTO credentials (principal_id, kind, name, hint, parent_id, created_at) \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9998) \
             SELECT c.principal_id, 3, 'test', '', c.parent_id, c.created_at FROM credentials c JOIN n ON TRUE WHERE c.kind = 3",
        )
        .await;
        let second = refresh().await;
        assert!(registry.sign_in_again(&first).await.is_ok());
        let third = refresh().await;
        assert!(registry.sign_in_again(&first).await.is_err(), "the oldest");
        for kept in [second, third] {
            assert!(registry.sign_in_again(&kept).await.is_ok());
        }
    });
}

/// What somebody may do is read anew although it is kept: a change on one replica counts for the next request on the other.
#[test]
fn a_change_on_one_replica_counts_on_the_other() {
    if !is_postgres() {
        return;
    }
    let _unset = together();
    run(async {
        let world = world().await;
        let one = &world.registry;
        let two = open(world.folder.path(), rules(AnonymousMode::Read)).await;
        image_of_bob(one, "v").await;
        let seen = |visibility| {
            let command = AccountsCommand::SetVisibility {
                repository: name("bob/app"),
                visibility,
            };
            one.administer(command)
        };
        let (reference, standing): (Reference, Tag) = ("v".parse().unwrap(), "v".parse().unwrap());
        for _ in 0..100 {
            seen(Visibility::Public).await.unwrap();
            let may = reads(&two, &Principal::Anonymous, "bob/app").await.unwrap();
            may.resolve(&reference).await.unwrap();
            seen(Visibility::Private).await.unwrap();
            let refused = reason(reads(&two, &Principal::Anonymous, "bob/app").await);
            assert_eq!(refused, Some(Reason::NoCredentials));
        }
        for _ in 0..100 {
            let (id, token) = token(one).await;
            let who = sign_in(&two, "token", token).await.unwrap();
            assert!(reads(&two, &who, "bob/app").await.is_ok());
            // From now on what is kept is asked for together with the tag.
            let pull = || two.pull(&who, name("bob/app"), &standing);
            pull().await.unwrap();
            revoke(one, id).await;
            assert_eq!(reason(pull().await), Some(Reason::Ended));
            let refused = reason(reads(&two, &who, "bob/app").await);
            assert_eq!(refused, Some(Reason::Ended));
        }
    });
}
