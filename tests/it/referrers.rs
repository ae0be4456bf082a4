//! end-12: what refers to a manifest.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::harness::{
    Answer, IMAGE, INDEX, LAYER, TestServer, artifact, descriptor, image, index, sha256, sha512,
};

const SBOM: &str = "application/vnd.example.sbom.v1+json";
const SIGNATURE: &str = "application/vnd.example.signature";
/// What containerd reads of an answer at most.
const CONTAINERD_LIMIT: usize = 4_393_216;

async fn referrers(server: &TestServer, repository: &str, digest: &str, query: &str) -> Answer {
    let answer = server
        .get(&format!("/v2/{repository}/referrers/{digest}{query}"))
        .await
        .is(200);
    assert_eq!(answer.header("content-type"), INDEX);
    let list = answer.json();
    assert_eq!(
        (&list["schemaVersion"], &list["mediaType"]),
        (&2.into(), &INDEX.into())
    );
    answer
}

fn list(answer: &Answer) -> Vec<Value> {
    answer.json()["manifests"]
        .as_array()
        .expect("a list")
        .clone()
}

fn digests(answer: &Answer) -> Vec<String> {
    list(answer)
        .iter()
        .map(|found| found["digest"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn end_12_is_empty_for_what_nobody_knows() {
    let server = TestServer::start().await;
    for digest in [sha256(b"unknown"), sha512(b"unknown")] {
        assert!(list(&referrers(&server, "refer/unknown", &digest, "").await).is_empty());
    }
    server.push_image("refer/known", "a", &image(1)).await;
    let answer = referrers(&server, "refer/known", &image(1).digest(), "?n=-1").await;
    assert!(list(&answer).is_empty());
    assert!(answer.find_header("oci-filters-applied").is_none());
}

#[tokio::test]
async fn end_12_refuses_what_is_no_digest() {
    let server = TestServer::start().await;
    for bad in [
        "latest",
        "sha256:short",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let answer = server.get(&format!("/v2/refer/bad/referrers/{bad}")).await;
        let named = bad
            .split_once(":d41")
            .map_or(bad, |(algorithm, _)| algorithm);
        answer.refused_naming(400, "DIGEST_INVALID", named);
    }
    let path = format!("/v2/refer/bad/referrers/{}?last=x", sha256(b"unknown"));
    assert_eq!(server.get(&path).await.status, 400);
}

#[tokio::test]
async fn end_12_describes_each_referrer() {
    let server = TestServer::start().await;
    let repository = "refer/describe";
    let pushed = image(1);
    let subject = pushed.digest();
    server.push_image(repository, "a", &pushed).await;
    let sbom = artifact(
        SBOM,
        Some(pushed.descriptor()),
        json!({"org.example.a": "ü"}),
    );
    server.push_artifact(repository, &sbom).await;
    let mut old_style: Value = serde_json::from_slice(&pushed.manifest).unwrap();
    old_style["subject"] = pushed.descriptor();
    let old_style = old_style.to_string();
    server
        .push_manifest(repository, "old", IMAGE, old_style.as_bytes())
        .await;
    let plain = json!({"schemaVersion": 2, "manifests": [], "subject": pushed.descriptor()});
    let mut typed = plain.clone();
    typed["artifactType"] = SIGNATURE.into();
    let (plain, typed) = (plain.to_string(), typed.to_string());
    for manifest in [&plain, &typed] {
        server
            .push_manifest(repository, "i", INDEX, manifest.as_bytes())
            .await;
    }

    let answer = referrers(&server, repository, &subject, "").await;
    assert!(answer.find_header("oci-filters-applied").is_none());
    let find = |content: &[u8]| {
        let digest = sha256(content);
        let found = list(&answer)
            .into_iter()
            .find(|found| found["digest"] == digest);
        let found = found.unwrap_or_else(|| panic!("{digest} is not listed"));
        assert_eq!(found["size"], content.len());
        found
    };
    assert_eq!(list(&answer).len(), 4);
    let found = find(&sbom);
    assert_eq!(
        (&found["mediaType"], &found["artifactType"]),
        (&IMAGE.into(), &SBOM.into())
    );
    assert_eq!(found["annotations"], json!({"org.example.a": "ü"}));
    let found = find(old_style.as_bytes());
    assert_eq!(
        found["artifactType"],
        "application/vnd.oci.image.config.v1+json"
    );
    assert!(found.get("annotations").is_none());
    let found = find(plain.as_bytes());
    assert_eq!(found["mediaType"], INDEX);
    assert!(found.get("artifactType").is_none());
    assert_eq!(find(typed.as_bytes())["artifactType"], SIGNATURE);
}

#[tokio::test]
async fn end_12_filters_by_artifact_type() {
    let server = TestServer::start().await;
    let repository = "refer/filter";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    let mut of_type = Vec::new();
    for (number, artifact_type) in [SBOM, SIGNATURE, SBOM, "text/other"]
        .into_iter()
        .enumerate()
    {
        let annotations = json!({"number": number.to_string()});
        let manifest = artifact(artifact_type, Some(pushed.descriptor()), annotations);
        of_type.push(server.push_artifact(repository, &manifest).await);
    }
    let [sbom, signature, second_sbom, other] = &of_type[..] else {
        unreachable!()
    };
    let cases = [
        (format!("artifactType={SBOM}"), vec![sbom, second_sbom]),
        (
            format!("artifactType={}", SIGNATURE.replace('/', "%2F")),
            vec![signature],
        ),
        (
            format!("artifactType={SIGNATURE}&artifactType=text/other"),
            vec![signature, other],
        ),
        ("artifactType=text/none".to_owned(), vec![]),
        (
            format!("ns=docker.io&artifactType={}", SBOM.replace('+', "%2B")),
            vec![sbom, second_sbom],
        ),
    ];
    for (query, expected) in cases {
        // A plus in a query is a space to some parsers; clients escape it.
        let query = query.replace("v1+json", "v1%2Bjson");
        let answer = referrers(&server, repository, &pushed.digest(), &format!("?{query}")).await;
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        let (found, expected): (HashSet<String>, HashSet<String>) = (
            digests(&answer).into_iter().collect(),
            expected.into_iter().cloned().collect(),
        );
        assert_eq!(found, expected, "{query}");
    }
}

/// All referrers, and the number of pages they came in.
async fn walk(
    server: &TestServer,
    repository: &str,
    digest: &str,
    query: &str,
) -> (Vec<String>, usize) {
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut answer = referrers(server, repository, digest, query).await;
    loop {
        pages += 1;
        assert!(
            answer.body.len() < CONTAINERD_LIMIT,
            "a page of {} bytes",
            answer.body.len()
        );
        assert_eq!(
            answer.find_header("oci-filters-applied").is_some(),
            !query.is_empty()
        );
        seen.extend(digests(&answer));
        let Some(next) = answer.next_page() else {
            return (seen, pages);
        };
        answer = server.get(&next).await.is(200);
    }
}

#[tokio::test]
async fn end_12_cuts_pages_by_bytes() {
    let server = TestServer::start().await;
    let repository = "refer/pages";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    let (mut all, mut signatures) = (HashSet::new(), HashSet::new());
    for number in 0..9 {
        let artifact_type = if number % 3 == 0 { SBOM } else { SIGNATURE };
        let annotations = json!({"large": number.to_string().repeat(900_000)});
        let manifest = artifact(artifact_type, Some(pushed.descriptor()), annotations);
        let digest = server.push_artifact(repository, &manifest).await;
        if artifact_type == SIGNATURE {
            signatures.insert(digest.clone());
        }
        all.insert(digest);
    }
    let (seen, pages) = walk(&server, repository, &pushed.digest(), "").await;
    assert!((3..=4).contains(&pages), "{pages} pages");
    assert_eq!(seen.len(), 9);
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), all);
    let filter = format!("?artifactType={SIGNATURE}");
    let (seen, pages) = walk(&server, repository, &pushed.digest(), &filter).await;
    assert_eq!((seen.len(), pages), (6, 2));
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), signatures);
}

/// Pushes manifests made by [`artifact`], some of them at once.
async fn push_all(server: &TestServer, repository: &str, manifests: &[Bytes]) {
    server.push_blob(repository, b"{}").await;
    stream::iter(manifests)
        .for_each_concurrent(16, |manifest| async {
            server
                .push_manifest(repository, &sha256(manifest), IMAGE, manifest)
                .await;
        })
        .await;
}

#[tokio::test]
async fn end_12_gives_many_small_referrers_at_once() {
    let server = TestServer::start().await;
    let repository = "refer/many";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    let manifests: Vec<_> = (0..1_100)
        .map(|number| {
            let annotations = json!({"number": number.to_string()});
            artifact(SIGNATURE, Some(pushed.descriptor()), annotations)
        })
        .collect();
    push_all(&server, repository, &manifests).await;
    let (seen, pages) = walk(&server, repository, &pushed.digest(), "").await;
    assert_eq!((seen.len(), pages), (1_100, 1));
    let expected: HashSet<String> = manifests.iter().map(|manifest| sha256(manifest)).collect();
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), expected);
}

#[tokio::test]
async fn end_12_gives_each_large_referrer_once_behind_many_small_ones() {
    let server = TestServer::start().await;
    let repository = "refer/mixed";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    let signature = |fill: String| {
        let annotations = json!({"fill": fill});
        artifact(SIGNATURE, Some(pushed.descriptor()), annotations)
    };
    // More than the database is asked for at once.
    let small: Vec<Bytes> = (0..505)
        .map(|number| signature(number.to_string()))
        .collect();
    push_all(&server, repository, &small).await;
    // 1.5 MiB each, some with fewer characters than bytes.
    let mut large = Vec::new();
    for number in 0..4 {
        large.push(signature(format!("{number}{}", "a".repeat(1_572_864))));
        large.push(signature(format!("{number}{}", "ü".repeat(786_432))));
    }
    for manifest in &large {
        server.push_artifact(repository, manifest).await;
    }
    let (seen, pages) = walk(&server, repository, &pushed.digest(), "").await;
    // Two of the large ones fit into each page.
    assert_eq!((seen.len(), pages), (513, 4));
    let all = small.iter().chain(&large);
    let expected: HashSet<String> = all.map(|manifest| sha256(manifest)).collect();
    assert_eq!(seen.into_iter().collect::<HashSet<_>>(), expected);
}

#[tokio::test]
async fn end_12_gives_the_largest_referrer_there_can_be() {
    let server = TestServer::start().await;
    let pushed = image(1);
    server.push_image("refer/largest", "a", &pushed).await;
    let mut digests = HashSet::new();
    for fill in ["a", "b"] {
        let annotations = json!({"large": fill.repeat(4 * 1024 * 1024 - 2_000)});
        let manifest = artifact(SIGNATURE, Some(pushed.descriptor()), annotations);
        digests.insert(server.push_artifact("refer/largest", &manifest).await);
    }
    let (seen, pages) = walk(&server, "refer/largest", &pushed.digest(), "").await;
    assert_eq!(
        (seen.into_iter().collect::<HashSet<_>>(), pages),
        (digests, 2)
    );
}

#[tokio::test]
async fn referrers_stay_when_their_subject_goes() {
    let server = TestServer::start().await;
    let repository = "refer/stay";
    let pushed = image(1);
    let subject = pushed.digest();
    let manifest = artifact(SIGNATURE, Some(pushed.descriptor()), json!({}));
    // Listed before the subject is there, while it is, and afterwards.
    let referrer = server.push_artifact(repository, &manifest).await;
    assert_eq!(
        digests(&referrers(&server, repository, &subject, "").await),
        [referrer.as_str()]
    );
    server.push_image(repository, "a", &pushed).await;
    assert_eq!(
        digests(&referrers(&server, repository, &subject, "").await),
        [referrer.as_str()]
    );
    server
        .delete(&format!("/v2/{repository}/manifests/{subject}"))
        .await
        .is(202);
    assert_eq!(
        digests(&referrers(&server, repository, &subject, "").await),
        [referrer.as_str()]
    );
    assert!(list(&referrers(&server, "refer/other", &subject, "").await).is_empty());

    server
        .delete(&format!("/v2/{repository}/manifests/{referrer}"))
        .await
        .is(202);
    assert!(list(&referrers(&server, repository, &subject, "").await).is_empty());
}

#[tokio::test]
async fn what_the_tag_schema_lists_is_taken_over() {
    let server = TestServer::start().await;
    let repository = "refer/schema";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    // A client that believes there is no referrers API keeps the list itself.
    let manifests = [SBOM, SIGNATURE].map(|artifact_type| artifact(artifact_type, None, json!({})));
    let mut descriptors = Vec::new();
    for (manifest, artifact_type) in manifests.iter().zip([SBOM, SIGNATURE]) {
        server.push_artifact(repository, manifest).await;
        let mut listed = descriptor(IMAGE, manifest);
        listed["artifactType"] = artifact_type.into();
        listed["annotations"] = json!({"org.example": artifact_type});
        descriptors.push(listed);
    }
    let tag = pushed.digest().replace(':', "-");
    server
        .push_manifest(repository, &tag, INDEX, &index(&descriptors))
        .await;
    let answer = referrers(&server, repository, &pushed.digest(), "").await;
    let mut found = list(&answer);
    found.sort_by_key(|found| found["artifactType"].to_string());
    assert_eq!(found, descriptors);
    let filter = format!("?artifactType={SIGNATURE}");
    let answer = referrers(&server, repository, &pushed.digest(), &filter).await;
    assert_eq!(digests(&answer), [sha256(&manifests[1])]);

    // A referrer of the API stands beside them, and the client's next list replaces its last.
    let modern = artifact("text/modern", Some(pushed.descriptor()), json!({}));
    let modern = server.push_artifact(repository, &modern).await;
    server
        .push_manifest(repository, &tag, INDEX, &index(&descriptors[..1]))
        .await;
    let answer = referrers(&server, repository, &pushed.digest(), "").await;
    let found: HashSet<String> = digests(&answer).into_iter().collect();
    assert_eq!(found, HashSet::from([modern, sha256(&manifests[0])]));
}

#[tokio::test]
async fn what_the_tag_schema_lists_a_thousand_times_counts_once() {
    let server = TestServer::start().await;
    let repository = "refer/repeated";
    let pushed = image(1);
    server.push_image(repository, "a", &pushed).await;
    let manifest = artifact(SBOM, None, json!({}));
    server.push_artifact(repository, &manifest).await;
    let mut listed: Vec<Value> = (0..1_000)
        .map(|number: u32| {
            let mut listed = descriptor(IMAGE, &manifest);
            listed["annotations"] = json!({"number": number.to_string()});
            listed
        })
        .collect();
    // A blob refers to nothing, whatever a list says.
    listed.push(descriptor(LAYER, &pushed.layer));
    let tag = pushed.digest().replace(':', "-");
    server
        .push_manifest(repository, &tag, INDEX, &index(&listed))
        .await;
    let answer = referrers(&server, repository, &pushed.digest(), "").await;
    assert_eq!(list(&answer), listed[..1]);
}
