//! Compare-and-swap of tags (decision 30).

use futures_util::future::join_all;

use crate::harness::{Answer, IMAGE, Image, Request, TestServer, image, sha256};

const REPOSITORY: &str = "swap/tags";

/// A server with images that no tag names.
async fn server_with_images(number: u64) -> (TestServer, Vec<Image>) {
    let server = TestServer::start().await;
    let images: Vec<Image> = (0..number).map(image).collect();
    for image in &images {
        server.push_image(REPOSITORY, &image.digest(), image).await;
    }
    (server, images)
}

fn put(server: &TestServer, reference: &str, image: &Image) -> Request {
    server.put_manifest(REPOSITORY, reference, IMAGE, &image.manifest)
}

fn delete(server: &TestServer, reference: &str) -> Request {
    server.delete(&format!("/v2/{REPOSITORY}/manifests/{reference}"))
}

fn quoted(digest: &str) -> String {
    format!("\"{digest}\"")
}

async fn standing(server: &TestServer, tag: &str) -> String {
    let answer = server
        .head(&format!("/v2/{REPOSITORY}/manifests/{tag}"))
        .await
        .is(200);
    answer.header("docker-content-digest").to_owned()
}

/// The condition failed, and the answer says where the tag stands.
#[track_caller]
fn assert_failed(answer: &Answer, tag: &str, current: Option<&str>) {
    let detail = answer.refused(412, "MANIFEST_INVALID");
    assert_eq!(detail["current"].as_str(), current);
    assert_eq!(detail["tag"], tag);
}

#[tokio::test]
async fn a_tag_moves_only_from_where_the_client_knows_it() {
    let (server, images) = server_with_images(3).await;
    let [a, b, c] = &images[..] else {
        unreachable!()
    };
    put(&server, "t", a).await.is(201);
    let answer = server
        .get(&format!("/v2/{REPOSITORY}/manifests/t"))
        .await
        .is(200);
    put(&server, "t", b)
        .header("If-Match", answer.header("etag"))
        .await
        .is(201);
    let answer = put(&server, "t", c)
        .header("If-Match", &quoted(&a.digest()))
        .await;
    assert_failed(&answer, "t", Some(&b.digest()));
    assert_eq!(standing(&server, "t").await, b.digest());
    // What holds already may be asked for again.
    put(&server, "t", b)
        .header("If-Match", &quoted(&b.digest()))
        .await
        .is(201);
}

#[tokio::test]
async fn a_tag_must_exist_or_must_not() {
    let (server, images) = server_with_images(2).await;
    let [a, b] = &images[..] else { unreachable!() };
    for condition in ["*", &quoted(&a.digest())] {
        let answer = put(&server, "t", a).header("If-Match", condition).await;
        assert_failed(&answer, "t", None);
    }
    assert!(server.tags(REPOSITORY).await.is_empty());
    put(&server, "t", a)
        .header("If-None-Match", "*")
        .await
        .is(201);
    let answer = put(&server, "t", b).header("If-None-Match", "*").await;
    assert_failed(&answer, "t", Some(&a.digest()));
    put(&server, "t", b).header("If-Match", "*").await.is(201);
    assert_eq!(standing(&server, "t").await, b.digest());
}

#[tokio::test]
async fn a_condition_holds_in_a_new_repository_too() {
    let server = TestServer::start().await;
    let manifest = b"{\"schemaVersion\":2}";
    let put = || server.put_manifest("swap/new", "t", "a/b", manifest);
    let answer = put().header("If-Match", "*").await;
    assert_failed(&answer, "t", None);
    put().header("If-None-Match", "*").await.is(201);
}

#[tokio::test]
async fn only_one_strong_tag_or_a_star_is_a_condition() {
    let (server, images) = server_with_images(2).await;
    let [a, b] = &images[..] else { unreachable!() };
    put(&server, "t", a).await.is(201);
    let (known, other) = (quoted(&a.digest()), quoted(&b.digest()));
    let conditions = [
        ("If-Match", format!("W/{known}")),
        ("If-Match", format!("{known}, {other}")),
        ("If-Match", a.digest()),
        ("If-Match", "\"not a digest\"".to_owned()),
        ("If-Match", String::new()),
        ("If-None-Match", known.clone()),
    ];
    for (name, value) in conditions {
        for request in [put(&server, "t", b), delete(&server, "t")] {
            let answer = request.header(name, &value).await;
            let detail = answer.refused(400, "MANIFEST_INVALID");
            assert_eq!(detail["value"], value, "{name}");
        }
    }
    let both = put(&server, "t", b)
        .header("If-Match", &known)
        .header("If-None-Match", "*");
    both.await.refused(400, "MANIFEST_INVALID");
    assert_eq!(standing(&server, "t").await, a.digest());
}

#[tokio::test]
async fn a_digest_alone_takes_no_condition() {
    let (server, images) = server_with_images(1).await;
    let digest = images[0].digest();
    for (name, value) in [
        ("If-Match", "*"),
        ("If-None-Match", "*"),
        ("If-Match", &quoted(&digest)),
    ] {
        let answer = put(&server, &digest, &images[0]).header(name, value).await;
        answer.refused(400, "MANIFEST_INVALID");
        let answer = delete(&server, &digest).header(name, value).await;
        answer.refused(400, "MANIFEST_INVALID");
    }
    server
        .get(&format!("/v2/{REPOSITORY}/manifests/{digest}"))
        .await
        .is(200);
}

#[tokio::test]
async fn a_condition_holds_for_all_tags_of_a_request() {
    let (server, images) = server_with_images(2).await;
    let [a, b] = &images[..] else { unreachable!() };
    put(&server, "one", a).await.is(201);
    put(&server, "two", b).await.is(201);
    let both = format!("{}?tag=one&tag=two", b.digest());
    let answer = put(&server, &both, b)
        .header("If-Match", &quoted(&a.digest()))
        .await;
    assert_failed(&answer, "two", Some(&b.digest()));
    let answer = put(&server, &both, b).header("If-None-Match", "*").await;
    assert_failed(&answer, "one", Some(&a.digest()));
    let new = format!("{}?tag=three&tag=one", b.digest());
    let answer = put(&server, &new, b).header("If-None-Match", "*").await;
    assert_failed(&answer, "one", Some(&a.digest()));
    assert_eq!(standing(&server, "one").await, a.digest());
    assert_eq!(server.tags(REPOSITORY).await, ["one", "two"]);
    put(&server, &both, b).header("If-Match", "*").await.is(201);
    assert_eq!(standing(&server, "one").await, b.digest());
}

#[tokio::test]
async fn a_tag_is_deleted_only_from_where_the_client_knows_it() {
    let (server, images) = server_with_images(2).await;
    let [a, b] = &images[..] else { unreachable!() };
    put(&server, "t", a).await.is(201);
    let answer = delete(&server, "t")
        .header("If-Match", &quoted(&b.digest()))
        .await;
    assert_failed(&answer, "t", Some(&a.digest()));
    assert_eq!(standing(&server, "t").await, a.digest());
    delete(&server, "t")
        .header("If-Match", &quoted(&a.digest()))
        .await
        .is(202);
    for condition in ["*", &quoted(&a.digest())] {
        let answer = delete(&server, "t").header("If-Match", condition).await;
        assert_failed(&answer, "t", None);
    }
}

/// Sends all requests at once; exactly one must win, and every other hear the winner's digest.
async fn assert_one_wins(server: &TestServer, requests: Vec<Request>, images: &[Image]) {
    let answers = join_all(requests.into_iter().map(IntoFuture::into_future)).await;
    let winner = standing(server, "t").await;
    let won: Vec<usize> = (0..answers.len())
        .filter(|&at| answers[at].status == 201)
        .collect();
    assert_eq!(won.len(), 1, "{won:?} won");
    assert_eq!(sha256(&images[won[0]].manifest), winner);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        assert_failed(answer, "t", Some(&winner));
    }
}

#[tokio::test]
async fn of_many_writers_one_wins() {
    let (server, images) = server_with_images(24).await;
    let requests = images
        .iter()
        .map(|image| put(&server, "t", image).header("If-None-Match", "*"));
    assert_one_wins(&server, requests.collect(), &images).await;
    for round in 0..5 {
        let known = quoted(&standing(&server, "t").await);
        // The image the tag stands at would be no move, and so no winner the others could tell from before.
        let others: Vec<Image> = (0..24)
            .map(image)
            .filter(|image| quoted(&image.digest()) != known)
            .collect();
        let requests = others
            .iter()
            .map(|image| put(&server, "t", image).header("If-Match", &known));
        assert_one_wins(&server, requests.collect(), &others).await;
        assert_ne!(
            quoted(&standing(&server, "t").await),
            known,
            "round {round}"
        );
    }
}
