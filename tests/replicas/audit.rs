//! What must hold when all faults are over.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use granary_oci::Digest;
use reqwest::Method;

use crate::{
    checker::{Action, End, Operation},
    clients::{Pulled, pull},
    cluster::{Backends, Cluster, EXPIRY, GRACE},
    world::{Ask, Door, Heard, World},
};

/// What reads in the end are noted as.
const AUDITOR: usize = usize::MAX;
const POLL: Duration = Duration::from_millis(500);
/// Manifests that are read again; of more, these many by chance.
const MOST_MANIFESTS: usize = 2000;

/// Reads everything that was acknowledged at every replica. Gives the numbers of blobs and of manifests.
pub(crate) async fn re_read(cluster: &Cluster, world: &Arc<World>) -> (usize, usize) {
    let kept = world.ledger.kept();
    let registers = world.history.registers();
    let (manifests, tags): (Vec<String>, Vec<String>) =
        registers.into_iter().partition(|name| name.contains('@'));
    let skip = manifests.len().div_ceil(MOST_MANIFESTS).max(1);
    for replica in &cluster.replicas {
        let door = Cluster::door(replica);
        for key in &kept {
            let before = world.ledger.known(*key);
            let pulled = pull(world, &door, *key, None).await;
            let must = world.ledger.must_be_there(*key, &before, world.clock.now());
            match pulled {
                Pulled::Right => {}
                Pulled::Missing if !must => {}
                other => world.violation(format!(
                    "{key:?} ({}) at {} in the end: {other:?}, {before:?}",
                    key.1.digest(),
                    door.name
                )),
            }
        }
        for key in world.ledger.gone() {
            let before = world.ledger.known(key);
            if pull(world, &door, key, None).await == Pulled::Right
                && world.ledger.must_be_gone(key, &before)
            {
                world.violation(format!("{key:?} was deleted and is at {}", door.name));
            }
        }
        for register in manifests.iter().step_by(skip).chain(&tags) {
            re_read_manifest(world, &door, register).await;
        }
    }
    (kept.len(), manifests.len() / skip)
}

/// Notes whether a manifest is there, or where a tag stands, as one more read.
async fn re_read_manifest(world: &World, door: &Door, register: &str) {
    let (repository, reference) = register.split_once(['@', ':']).unwrap();
    let path = format!("/v2/{repository}/manifests/{reference}");
    let told = world.ask(door, Ask::new(Method::GET, path)).await;
    let Heard::Answer(answer) = &told.heard else {
        return world.violation(format!("{} failed though nothing is wrong", told.what));
    };
    let seen = match answer.status {
        200 => Some(Digest::sha256(&answer.body)),
        404 => None,
        _ => return world.violation(format!("{}: {}", told.what, answer.text())),
    };
    let by_digest = register.contains('@');
    if seen.is_some_and(|seen| answer.digest() != Some(seen))
        || seen.is_some_and(|seen| by_digest && seen.to_string() != reference)
    {
        return world.violation(format!("{} gave the wrong bytes", told.what));
    }
    let value = seen.map(|seen| {
        if by_digest {
            0
        } else {
            world.history.value(seen)
        }
    });
    let operation = Operation {
        client: AUDITOR,
        action: Action::Read(value),
        invoked: told.invoked,
        end: End::Acknowledged(told.ended),
    };
    world.history.note(register, operation);
}

/// Waits until nothing is left that nobody needs: sessions, objects, parts.
pub(crate) async fn nothing_is_left(cluster: &Cluster, world: &World) {
    let Some(backends) = &cluster.backends else {
        return;
    };
    // Idle sessions end, blobs lose their lease, two passes take them, and their objects go after the same time again.
    let enough = EXPIRY + 3 * GRACE + Duration::from_secs(20);
    let since = std::time::Instant::now();
    loop {
        for replica in &cluster.replicas {
            if let Err(error) = replica.collect() {
                world.violation(format!("gc failed though nothing is wrong: {error}"));
            }
        }
        let left = left(backends).await;
        if left.is_empty() {
            return;
        }
        if since.elapsed() > enough {
            for left in left {
                world.violation(format!("after {enough:?} there is still {left}"));
            }
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn left(backends: &Backends) -> Vec<String> {
    let mut left = Vec::new();
    let rows = |sql: &str| -> BTreeSet<String> {
        let rows = backends.database().sql(sql);
        rows.lines().map(str::to_owned).collect()
    };
    for id in rows(
        "SELECT id || ' of ' || repository || ', ' || received || ' bytes, holder ' || coalesce(holder, 'none') \
                    FROM uploads WHERE finished IS NULL",
    ) {
        left.push(format!("session {id}"));
    }
    for key in rows(
        "SELECT storage_key || ', due ' || (not_before / 1000000 - extract(epoch FROM now()))::bigint || ' s from now' \
                     FROM doomed_objects",
    ) {
        left.push(format!("doomed object {key}"));
    }
    for tail in rows(
        "SELECT upload_id FROM upload_tails WHERE upload_id NOT IN (SELECT id FROM uploads WHERE finished IS NULL)",
    ) {
        left.push(format!("tail of {tail}"));
    }
    if !left.is_empty() {
        return left;
    }
    let before = rows("SELECT storage_key FROM blobs WHERE storage_key IS NOT NULL");
    let objects = backends.objects().await;
    let after = rows("SELECT storage_key FROM blobs WHERE storage_key IS NOT NULL");
    let key = |object: &String| object.strip_prefix("blobs/").map(str::to_owned);
    let stored: BTreeSet<String> = objects.iter().filter_map(key).collect();
    for key in stored
        .difference(&before)
        .filter(|key| !after.contains(*key))
    {
        left.push(format!("an object that no row names: {key}"));
    }
    for key in before
        .intersection(&after)
        .filter(|key| !stored.contains(*key))
    {
        left.push(format!("a row whose object is missing: {key}"));
    }
    for key in backends.unfinished().await {
        let object = if objects.contains(&key) {
            "is there"
        } else {
            "is not there"
        };
        left.push(format!("a multipart upload of {key}, which {object}"));
    }
    left
}
