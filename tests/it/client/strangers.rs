//! Servers that are away, that are no Granary, or that mean no good; and commands that are asked of a server by their paths.

use serde_json::json;

use super::{
    Machine, said,
    stub::{Stub, json_answer},
};
use crate::{
    accounts::{password, settings, with_accounts},
    harness::Ran,
};

async fn log_in(machine: &Machine, server: &str) -> Ran {
    let arguments = ["login", server, "--username", "bob", "--password-stdin"];
    machine.run_with_input(&arguments, &password("bob")).await
}

#[tokio::test]
async fn a_server_that_is_away_is_named_with_a_remedy() {
    let gone = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let machine = Machine::new();
    let with_token = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    for ran in [
        log_in(&machine, &gone).await,
        with_token.run(&["whoami", "--server", &gone]).await,
    ] {
        let ran = ran.exits(1);
        said(&ran, &format!("{gone} cannot be reached"));
        said(&ran, "--server");
        assert_eq!(ran.stdout, "");
    }
    assert!(!machine.file().exists());
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_it_is_to_be_written() {
    let server = with_accounts(settings()).await;
    let plain = server.url("");
    let ran = log_in(&Machine::new(), &plain.replacen("http", "https", 1)).await;
    let ran = ran.exits(1);
    said(&ran, &format!("answers without TLS: write {plain}"));
    // Of a name without a port it is said which was tried; certificates are none of it.
    let machine = Machine::new();
    let ran = log_in(&machine, "nowhere.localhost").await.exits(1);
    said(&ran, "80 was tried, as no other is written");
    assert!(!ran.stderr.contains("certificate"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_a_group_has_not_is_not_asked_for() {
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    for (line, words) in [
        (
            "member set acme bob maintainer",
            "only a team has maintainers: write ORGANISATION/TEAM",
        ),
        (
            "member set acme/dev bob write",
            "in a team somebody is member or maintainer",
        ),
        (
            "token create ci --expires 90",
            "write a number with its unit, such as 90d",
        ),
        (
            "token rotate 7 --overlap 1",
            "write a number with its unit, such as 1d",
        ),
        (
            "password --password-stdin",
            "the second line of standard input, the new password, is missing",
        ),
    ] {
        let words_of_line: Vec<&str> = line.split(' ').collect();
        let ran = machine.run_with_input(&words_of_line, "one line\n").await;
        said(&ran.exits(2), words);
    }
}

#[tokio::test]
async fn nothing_secret_is_sent_to_what_is_no_granary() {
    let answers = [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            "does not answer as Granary does (HTTP 200",
        ),
        (
            json_answer(200, "{}"),
            "does not answer as Granary does (HTTP 200",
        ),
        (
            json_answer(200, "{\"ok\":true,\"data\":{\"user\":\"bob\"}}"),
            "no Granary",
        ),
        (
            json_answer(401, "{\"errors\":[]}"),
            "does not answer as Granary does (HTTP 401",
        ),
        (
            "HTTP/1.1 307 X\r\nLocation: http://192.0.2.7/\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "sends to another address",
        ),
        (json_answer(200, &" ".repeat(1_100_000)), "more than 1 MiB"),
    ];
    for (answer, words) in answers {
        let stub = Stub::start(move |_| answer.clone());
        let machine = Machine::new();
        let ran = log_in(&machine, &stub.url()).await.exits(1);
        said(&ran, words);
        said(&ran, &stub.url());
        assert!(!machine.file().exists(), "{words}");
        let asked = stub.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert_eq!(asked[0].line, "GET /api/v1/me");
        assert!(!asked[0].head.to_lowercase().contains("authorization"));
    }
}

#[tokio::test]
async fn a_server_does_nothing_to_the_terminal() {
    let failed = json!({"ok": false, "error": {"code": "X\u{1b}[2J", "message": "y\u{7}\nz"}});
    let failed = failed.to_string();
    let stub = Stub::start(move |_| json_answer(403, &failed));
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    let ran = machine.run(&["whoami", "--server", &stub.url()]).await;
    let ran = ran.exits(1);
    assert!(
        !ran.stderr.contains(['\u{1b}', '\u{7}']),
        "{:?}",
        ran.stderr
    );
    said(&ran, "y\\u{7}\\nz (X\\u{1b}[2J)");
}

#[tokio::test]
async fn when_to_try_again_is_said_once() {
    for message in ["too many: try again in 7 s", "too many"] {
        let failed = json!({"ok": false, "error": {"code": "X", "message": message}}).to_string();
        let length = failed.len();
        let answer = format!(
            "HTTP/1.1 429 X\r\nContent-Type: application/json\r\nRetry-After: 7\r\nContent-Length: {length}\r\n\r\n{failed}"
        );
        let stub = Stub::start(move |_| answer.clone());
        let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
        let ran = machine.run(&["whoami", "--server", &stub.url()]).await;
        let ran = ran.exits(1);
        assert_eq!(
            ran.stderr.matches("try again in 7 s").count(),
            1,
            "{}",
            ran.stderr
        );
    }
}

#[tokio::test]
async fn pages_that_never_end_are_read_once() {
    let page = json!({"ok": true, "data": [{"id": 1}], "next": "1"}).to_string();
    let stub = Stub::start(move |_| json_answer(200, &page));
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    let arguments = ["grant", "list", "bob", "--json", "--server", &stub.url()];
    let rows = machine.run(&arguments).await.exits(0).json();
    assert_eq!(rows, json!([{"id": 1}, {"id": 1}]));
    let lines: Vec<String> = stub.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1/namespaces/bob/grants",
            "GET /api/v1/namespaces/bob/grants?after=1"
        ]
    );
}

#[tokio::test]
async fn a_list_ends_where_its_limit_says() {
    let page = json!({"ok": true, "data": [{"seq": 9}, {"seq": 8}], "next": 8}).to_string();
    let stub = Stub::start(move |_| json_answer(200, &page));
    let machine = Machine::new().env("GRANARY_TOKEN", "grn_t_some");
    let url = stub.url();
    let arguments = "audit list --limit 1 --actor bob --target bob/app --action a&b --denied --since 2026-11-22 --json --server";
    let arguments: Vec<&str> = arguments.split(' ').chain([url.as_str()]).collect();
    let rows = machine.run(&arguments).await.exits(0).json();
    assert_eq!(rows, json!([{"seq": 9}]));
    assert_eq!(
        stub.asked()[0].line,
        "GET /api/v1/audit?limit=1&actor=bob&target=bob%2Fapp&action=a%26b&denied=true&since=2026-11-22T00%3A00%3A00Z"
    );
    assert_eq!(stub.asked().len(), 1);
}

/// What each command asks for, as far as no test asks a real server for it.
#[tokio::test]
async fn commands_ask_for_what_they_say() {
    let cases = [
        (
            "org create acme --owner bob",
            "POST /api/v1/orgs",
            json!({"organisation": "acme", "owner": "bob"}),
        ),
        (
            "org add acme",
            "POST /api/v1/orgs",
            json!({"organisation": "acme"}),
        ),
        ("org list", "GET /api/v1/orgs", json!(null)),
        ("org show acme", "GET /api/v1/orgs/acme", json!(null)),
        ("org delete acme", "DELETE /api/v1/orgs/acme", json!(null)),
        (
            "team create acme/dev",
            "POST /api/v1/orgs/acme/teams",
            json!({"team": "dev"}),
        ),
        ("team list acme", "GET /api/v1/orgs/acme/teams", json!(null)),
        (
            "team remove acme/dev",
            "DELETE /api/v1/orgs/acme/teams/dev",
            json!(null),
        ),
        (
            "member list acme",
            "GET /api/v1/orgs/acme/members",
            json!(null),
        ),
        (
            "member list acme/dev",
            "GET /api/v1/orgs/acme/teams/dev/members",
            json!(null),
        ),
        (
            "member set acme bob admin",
            "PUT /api/v1/orgs/acme/members/bob",
            json!({"role": "admin"}),
        ),
        (
            "member set acme/dev bob maintainer",
            "PUT /api/v1/orgs/acme/teams/dev/members/bob",
            json!({"role": "maintainer"}),
        ),
        (
            "member remove acme/dev bob",
            "DELETE /api/v1/orgs/acme/teams/dev/members/bob",
            json!(null),
        ),
        (
            "namespace acme --quota-bytes 1KiB --quota-artifacts none --default-license MIT",
            "PATCH /api/v1/namespaces/acme",
            json!({"quota_bytes": 1024, "quota_artifacts": 0, "default_license": "MIT"}),
        ),
        (
            "robot create acme+ci",
            "POST /api/v1/owners/acme/robots",
            json!({"robot": "ci"}),
        ),
        (
            "robot list acme",
            "GET /api/v1/owners/acme/robots",
            json!(null),
        ),
        (
            "robot remove acme+ci",
            "DELETE /api/v1/owners/acme/robots/ci",
            json!(null),
        ),
        (
            "robot token acme+ci build --scope read:acme/** --expires 1h",
            "POST /api/v1/owners/acme/robots/ci/tokens",
            json!({
                "name": "build",
                "scopes": [{"verbs": ["read"], "repositories": "acme/**"}],
                "expires_in": 3600,
            }),
        ),
        (
            "token rotate 7 --overlap 1h",
            "POST /api/v1/tokens/7/rotate",
            json!({"overlap": 3600}),
        ),
    ];
    let data = json!({"id": 8, "token": "grn_t_new", "role": "owner", "entries": []});
    for (command, line, body) in cases {
        let stub = Stub::granary(&data);
        let machine = Machine::new().env("GRANARY_TOKEN", " grn_t_some\n");
        let url = stub.url();
        let arguments: Vec<&str> = command.split(' ').chain(["--server", &url]).collect();
        machine.run(&arguments).await.exits(0);
        let asked = stub.asked();
        assert_eq!(asked.len(), 1, "{command}: {asked:?}");
        assert_eq!(asked[0].line, line, "{command}");
        let sent = serde_json::from_str(&asked[0].body).unwrap_or(json!(null));
        assert_eq!(sent, body, "{command}");
        assert!(asked[0].head.contains("Bearer grn_t_some"), "{command}");
    }
}
