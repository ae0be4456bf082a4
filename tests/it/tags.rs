//! end-8, and where a tag stood before.

use jiff::Timestamp;
use serde_json::json;

use crate::harness::{Answer, IMAGE, TestServer, image, sha256, texts};

/// Sets many tags at one image.
async fn push_tags(server: &TestServer, repository: &str, tags: &[String]) {
    let pushed = image(1);
    server
        .push_image(repository, &pushed.digest(), &pushed)
        .await;
    for part in tags.chunks(50) {
        let path = format!("{}?tag={}", pushed.digest(), part.join("&tag="));
        server
            .push_manifest(repository, &path, IMAGE, &pushed.manifest)
            .await;
    }
}

#[tokio::test]
async fn end_8_lists_tags_bytewise() {
    let server = TestServer::start().await;
    let mut tags: Vec<String> = ["b", "a", "B", "1.10", "1.9", "_x", "A-z", "A.z", "a_", "a-"]
        .map(str::to_owned)
        .into();
    push_tags(&server, "tags/order", &tags).await;
    tags.sort_unstable();
    let list = server.get("/v2/tags/order/tags/list").await.is(200);
    assert_eq!(list.json(), json!({"name": "tags/order", "tags": tags}));
    assert_eq!(list.header("content-type"), "application/json");
    assert_eq!(list.next_page(), None);
}

#[tokio::test]
async fn end_8_gives_pages_that_join() {
    let server = TestServer::start().await;
    let tags: Vec<String> = (0..50).map(|number| format!("v{number:03}")).collect();
    push_tags(&server, "tags/pages", &tags).await;
    for size in [1, 7, 25, 50, 51] {
        let mut path = Some(format!("/v2/tags/pages/tags/list?n={size}"));
        let mut seen = Vec::new();
        while let Some(page) = path {
            let answer = server.get(&page).await.is(200);
            let part = texts(&answer.json()["tags"]);
            assert!(part.len() <= size && !part.is_empty(), "{page}");
            seen.extend(part);
            path = answer.next_page();
        }
        assert_eq!(seen, tags);
    }
}

#[tokio::test]
async fn end_8_begins_behind_last() {
    let server = TestServer::start().await;
    let tags: Vec<String> = (0..5).map(|number| format!("t{number}")).collect();
    push_tags(&server, "tags/last", &tags).await;
    let cases = [
        ("last=t1", &tags[2..]),
        ("last=t1a", &tags[2..]),
        ("last=t1&n=2", &tags[2..4]),
        ("last=t4", &[]),
        ("last=zzz", &[]),
        ("last=", &tags[..]),
        ("last=../../etc", &tags[..]),
        ("last=%00", &tags[..]),
        ("n=0", &[]),
        ("n=0&last=t1", &[]),
    ];
    for (query, expected) in cases {
        let answer = server
            .get(&format!("/v2/tags/last/tags/list?{query}"))
            .await
            .is(200);
        assert_eq!(texts(&answer.json()["tags"]), expected, "{query}");
        let more = query == "last=t1&n=2";
        assert_eq!(answer.next_page().is_some(), more, "{query}");
    }
}

#[tokio::test]
async fn end_8_reads_numbers_strictly() {
    let server = TestServer::start().await;
    push_tags(&server, "tags/n", &["a".to_owned()]).await;
    for huge in ["2147483648", "18446744073709551616", &"9".repeat(400)] {
        let answer = server
            .get(&format!("/v2/tags/n/tags/list?n={huge}"))
            .await
            .is(200);
        assert_eq!(texts(&answer.json()["tags"]), ["a"]);
    }
    for bad in ["-1", "x", "1.5", "0x10", "-99999999999999999999", "%D9%A1"] {
        let answer = server.get(&format!("/v2/tags/n/tags/list?n={bad}")).await;
        let named = if bad == "%D9%A1" { "\u{661}" } else { bad };
        answer.refused_naming(400, "PAGINATION_NUMBER_INVALID", named);
    }
    server
        .get("/v2/tags/n/tags/list?n=")
        .await
        .refused(400, "PAGINATION_NUMBER_INVALID");
}

#[tokio::test]
async fn end_8_lists_at_most_10000_tags_at_once() {
    let server = TestServer::start().await;
    let tags: Vec<String> = (0..10_050).map(|number| format!("t{number:05}")).collect();
    push_tags(&server, "tags/many", &tags).await;
    for path in [
        "/v2/tags/many/tags/list",
        "/v2/tags/many/tags/list?n=999999",
    ] {
        let first = server.get(path).await.is(200);
        assert_eq!(texts(&first.json()["tags"]), tags[..10_000]);
        let second = server
            .get(&first.next_page().expect("a second page"))
            .await
            .is(200);
        assert_eq!(texts(&second.json()["tags"]), tags[10_000..]);
        assert_eq!(second.next_page(), None);
    }
}

#[tokio::test]
async fn end_8_knows_repositories_without_tags() {
    let server = TestServer::start().await;
    let answer = server.get("/v2/tags/unknown/tags/list").await;
    answer.refused_naming(404, "NAME_UNKNOWN", "tags/unknown");
    server
        .push_image("tags/none", &image(1).digest(), &image(1))
        .await;
    assert!(server.tags("tags/none").await.is_empty());
}

async fn at(server: &TestServer, reference: &str, time: Timestamp) -> Answer {
    server
        .get(&format!("/v2/tags/history/manifests/{reference}?at={time}"))
        .await
}

#[tokio::test]
async fn a_tag_is_found_where_it_stood() {
    let server = TestServer::start().await;
    let (first, second) = (image(1), image(2));
    server
        .push_image("tags/history", &first.digest(), &first)
        .await;
    let before = Timestamp::now();
    server
        .push_manifest("tags/history", "a", IMAGE, &first.manifest)
        .await;
    let at_first = Timestamp::now();
    server.push_image("tags/history", "a", &second).await;
    let at_second = Timestamp::now();
    // The same digest again is no move.
    server
        .push_manifest("tags/history", "a", IMAGE, &second.manifest)
        .await;
    server.delete("/v2/tags/history/manifests/a").await.is(202);
    let deleted = Timestamp::now();
    server
        .push_manifest("tags/history", "a", IMAGE, &first.manifest)
        .await;

    at(&server, "a", before)
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", "a");
    let answer = at(&server, "a", at_first).await.is(200);
    assert_eq!(answer.body, first.manifest);
    assert_eq!(answer.header("docker-content-digest"), first.digest());
    assert_eq!(answer.header("content-type"), IMAGE);
    assert_eq!(
        at(&server, "a", at_second).await.is(200).body,
        second.manifest
    );
    at(&server, "a", deleted)
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", "a");
    assert_eq!(
        at(&server, "a", Timestamp::now()).await.is(200).body,
        first.manifest
    );
    at(&server, "never", Timestamp::now())
        .await
        .refused_naming(404, "MANIFEST_UNKNOWN", "never");
}

#[tokio::test]
async fn a_removed_manifest_says_since_when() {
    let server = TestServer::start().await;
    let (first, second) = (image(1), image(2));
    server.push_image("tags/history", "a", &first).await;
    let at_first = Timestamp::now();
    server.push_image("tags/history", "a", &second).await;
    let before = Timestamp::now();
    server
        .delete(&format!("/v2/tags/history/manifests/{}", first.digest()))
        .await
        .is(202);
    let after = Timestamp::now();

    let detail = at(&server, "a", at_first)
        .await
        .refused(404, "MANIFEST_UNKNOWN");
    assert_eq!(detail["digest"], first.digest());
    let removed: Timestamp = detail["removed_at"].as_str().unwrap().parse().unwrap();
    let slack = jiff::SignedDuration::from_micros(1);
    assert!(
        (before - slack..=after).contains(&removed),
        "{before} {removed} {after}"
    );
    assert_eq!(at(&server, "a", before).await.is(200).body, second.manifest);
}

#[tokio::test]
async fn a_time_must_be_one_and_belongs_to_a_tag() {
    let server = TestServer::start().await;
    server.push_image("tags/history", "a", &image(1)).await;
    for time in ["yesterday", "1700000000", "2026-13-01T00:00:00Z"] {
        let answer = server
            .get(&format!("/v2/tags/history/manifests/a?at={time}"))
            .await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["errors"][0]["detail"]["value"], time);
    }
    let answer = at(&server, &sha256(&image(1).manifest), Timestamp::now()).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_manifest_takes_its_many_tags_along() {
    let server = TestServer::start().await;
    let (first, second) = (image(1), image(2));
    let tags: Vec<String> = (0..300).map(|number| format!("t{number:03}")).collect();
    server.push_image("tags/history", "t150", &second).await;
    let at_second = Timestamp::now();
    push_tags(&server, "tags/history", &tags).await;
    let at_first = Timestamp::now();
    push_tags(&server, "tags/other", &tags[..1]).await;
    let path = |tag: &str| format!("/v2/tags/history/manifests/{tag}");
    // What lies in memory has to go as well.
    for tag in &tags {
        server.get(&path(tag)).await.is(200);
    }
    server.delete(&path(&first.digest())).await.is(202);
    let deleted = Timestamp::now();
    for tag in &tags {
        let answer = server.get(&path(tag)).await;
        answer.refused_naming(404, "MANIFEST_UNKNOWN", tag);
    }
    assert!(server.tags("tags/history").await.is_empty());
    assert_eq!(server.tags("tags/other").await, tags[..1]);

    let answer = at(&server, "t150", at_second).await.is(200);
    assert_eq!(answer.body, second.manifest);
    for tag in ["t000", "t150", "t299"] {
        let answer = at(&server, tag, at_first).await;
        let detail = answer.refused(404, "MANIFEST_UNKNOWN");
        assert_eq!(detail["digest"], first.digest());
    }
    // Once the manifest is back, only the history says when they stood at it.
    server
        .push_manifest("tags/history", &first.digest(), IMAGE, &first.manifest)
        .await;
    for tag in ["t000", "t150", "t299"] {
        let answer = at(&server, tag, at_first).await.is(200);
        assert_eq!(answer.body, first.manifest);
        at(&server, tag, deleted)
            .await
            .refused_naming(404, "MANIFEST_UNKNOWN", tag);
    }
}
