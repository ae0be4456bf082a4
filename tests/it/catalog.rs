//! `_catalog` and the extensions.

use serde_json::json;

use crate::harness::{TestServer, image, texts};

async fn push_repositories(server: &TestServer, names: &[&str]) {
    for name in names {
        server.push_image(name, "a", &image(1)).await;
    }
}

#[tokio::test]
async fn the_catalog_lists_repositories_bytewise() {
    let server = TestServer::start().await;
    let answer = server.get("/v2/_catalog").await.is(200);
    assert_eq!(answer.json(), json!({"repositories": []}));
    let mut names = ["b/a", "a", "a-b/c", "a/b", "a/b/c", "a0", "library/alpine"];
    push_repositories(&server, &names).await;
    server.push_blob("only/blobs", b"content").await;
    names.sort_unstable();
    let answer = server.get("/v2/_catalog").await.is(200);
    assert_eq!(answer.json(), json!({"repositories": names}));
    assert_eq!(answer.next_page(), None);
}

#[tokio::test]
async fn the_catalog_gives_pages_that_join() {
    let server = TestServer::start().await;
    let names = ["a", "b/1", "b/2", "c", "d/e/f"];
    push_repositories(&server, &names).await;
    for size in 1..=6 {
        let mut path = Some(format!("/v2/_catalog?n={size}"));
        let mut seen = Vec::new();
        while let Some(page) = path {
            let answer = server.get(&page).await.is(200);
            let part = texts(&answer.json()["repositories"]);
            assert!(part.len() <= size && !part.is_empty(), "{page}");
            seen.extend(part);
            path = answer.next_page();
        }
        assert_eq!(seen, names);
    }
    let answer = server.get("/v2/_catalog?last=b/1").await.is(200);
    assert_eq!(texts(&answer.json()["repositories"]), names[2..]);
}

#[tokio::test]
async fn the_catalog_reads_numbers_strictly() {
    let server = TestServer::start().await;
    push_repositories(&server, &["a"]).await;
    for huge in ["2147483648", "99999999999999999999999999"] {
        let answer = server.get(&format!("/v2/_catalog?n={huge}")).await.is(200);
        assert_eq!(texts(&answer.json()["repositories"]), ["a"]);
    }
    let answer = server.get("/v2/_catalog?n=0").await.is(200);
    assert!(texts(&answer.json()["repositories"]).is_empty());
    assert_eq!(answer.next_page(), None);
    for bad in ["-1", "x", "1e3", "-9223372036854775809"] {
        let answer = server.get(&format!("/v2/_catalog?n={bad}")).await;
        answer.refused_naming(400, "PAGINATION_NUMBER_INVALID", bad);
    }
}

#[tokio::test]
async fn extensions_can_be_discovered() {
    let server = TestServer::start().await;
    push_repositories(&server, &["a/b"]).await;
    for path in ["/v2/_oci/ext/discover", "/v2/a/b/_oci/ext/discover"] {
        let list = server.get(path).await.is(200).json();
        for extension in list["extensions"].as_array().expect("a list") {
            assert!(
                extension["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with('_'))
            );
            assert!(!texts(&extension["endpoints"]).is_empty());
        }
    }
}
