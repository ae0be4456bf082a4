//! The commands that ask a running server, with an account of one's own.

mod keeping;
mod people;
mod robots;
mod strangers;
mod stub;
mod trail;

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    accounts::{
        basic, basic_with, bearer, challenge, password, push_image, settings, with_accounts,
    },
    harness::{Ran, TestServer, granary, image, run, run_with_input},
};

/// A machine with a home of its own, where one is logged in or not.
struct Machine {
    home: TempDir,
    environment: Vec<(String, String)>,
}

impl Machine {
    fn new() -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            environment: Vec::new(),
        }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("settings/granary")
    }

    /// Where log-ins are kept.
    fn file(&self) -> PathBuf {
        self.folder().join("credentials.toml")
    }

    fn kept(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// The one token that is kept.
    fn token(&self) -> String {
        let kept = self.kept();
        let tokens: Vec<&str> = kept
            .lines()
            .filter_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'))
            .collect();
        assert_eq!(tokens.len(), 1, "{kept}");
        tokens[0].to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = granary();
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("settings"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments)).await
    }

    async fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        run_with_input(self.command(arguments), input).await
    }

    async fn try_log_in(&self, server: &TestServer, user: &str, input: &str) -> Ran {
        let url = server.url("");
        let arguments = ["login", &url, "--username", user, "--password-stdin"];
        self.run_with_input(&arguments, input).await
    }

    /// A machine where this user is logged in.
    async fn of(server: &TestServer, user: &str) -> Self {
        let machine = Self::new();
        let input = format!("{}\n", password(user));
        machine.try_log_in(server, user, &input).await.exits(0);
        machine
    }
}

#[track_caller]
fn said(ran: &Ran, words: &str) {
    assert!(ran.stderr.contains(words), "no '{words}' in {}", ran.stderr);
}

#[track_caller]
fn row(list: &Value, field: &str, value: &Value) -> Value {
    let rows = list.as_array().expect("a list");
    let found = rows.iter().find(|row| row[field] == *value);
    found
        .unwrap_or_else(|| panic!("no {value} in {list}"))
        .clone()
}

#[tokio::test]
async fn a_log_in_keeps_a_token_for_its_user_alone_and_no_password() {
    let server = with_accounts(settings()).await;
    for end in ["\n", "\r\n", "", "\nsomething else\n"] {
        let machine = Machine::new();
        let input = format!("{}{end}", password("bob"));
        let ran = machine.try_log_in(&server, "bob", &input).await.exits(0);
        let url = server.url("");
        assert_eq!(ran.stdout, format!("logged in to {url} as bob\n"));
        let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(machine.folder()), 0o700);
        assert_eq!(mode(machine.file()), 0o600);
        let (kept, token) = (machine.kept(), machine.token());
        assert!(token.starts_with("grn_t_"), "{kept}");
        assert!(!kept.contains(&password("bob")), "{kept}");
        for secret in [token.as_str(), &password("bob")] {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
        }
        let ran = machine.run(&["whoami"]).await.exits(0);
        let lines: Vec<Vec<&str>> = ran
            .stdout
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["user", "bob"]);
        assert_eq!(lines[1], ["server", &url]);
        assert_eq!(lines[2], ["administrator", "no"]);
    }
    let machine = Machine::of(&server, "bob").await;
    let tokens = machine.run(&["token", "list", "--json"]).await.exits(0);
    let tokens = tokens.json();
    let own = tokens.as_array().expect("a list").last().expect("a token");
    let name = own["name"].as_str().expect("a name");
    assert!(name.starts_with("granary on "), "{name}");
    assert!(own["expires_at"].is_string(), "{own}");
}

#[tokio::test]
async fn a_wrong_password_keeps_nothing() {
    let server = with_accounts(settings()).await;
    let machine = Machine::new();
    for (user, input) in [("bob", "hunter2\n"), ("bob", "\n"), ("nobody", "hunter2\n")] {
        let ran = machine.try_log_in(&server, user, input).await.exits(1);
        said(&ran, "(UNAUTHORIZED)");
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert!(!machine.file().exists());
    }
    let ran = machine.run(&["whoami", "--server", &server.url("")]).await;
    said(&ran.exits(1), "granary login");
}

#[tokio::test]
async fn there_is_nothing_to_log_in_to_before_the_first_account() {
    let server = settings().start().await;
    let machine = Machine::new();
    let ran = machine.try_log_in(&server, "bob", "some password\n").await;
    let ran = ran.exits(1);
    said(&ran, "granary admin bootstrap");
    said(&ran, "(CONFLICT)");
    assert!(!machine.file().exists());
}

#[tokio::test]
async fn how_a_log_in_is_written_wrong() {
    let server = with_accounts(settings()).await;
    let machine = Machine::new();
    let url = server.url("");
    let with_path = format!("{url}/v2");
    let cases: [(&[&str], &str); 6] = [
        (&["login", &url, "--username", "bob"], "--password-stdin"),
        (&["login", &url], "--token-stdin"),
        (&["login", &url, "--password-stdin"], "--username"),
        (
            &["login", &url, "--token-stdin"],
            "no token on standard input",
        ),
        (&["login", &with_path, "--token-stdin"], "without a path"),
        (
            &["login", &url, "--username", "b:b", "--password-stdin"],
            "no colon",
        ),
    ];
    for (arguments, words) in cases {
        said(&machine.run(arguments).await.exits(2), words);
    }
    assert!(!machine.file().exists());
}

#[tokio::test]
async fn another_log_in_ends_the_token_of_the_one_before() {
    let server = with_accounts(settings()).await;
    let machine = Machine::of(&server, "bob").await;
    let first = machine.token();
    let input = password("carol");
    machine.try_log_in(&server, "carol", &input).await.exits(0);
    let second = machine.token();
    challenge(&server.get("/v2/").by(&bearer(&first)).await);
    server.get("/v2/").by(&bearer(&second)).await.is(200);
    let account = machine.run(&["whoami", "--json"]).await.exits(0).json();
    assert_eq!(account["user"], "carol");
}

#[tokio::test]
async fn a_log_out_ends_the_token_at_the_server() {
    let server = with_accounts(settings()).await;
    let machine = Machine::of(&server, "bob").await;
    let token = machine.token();
    server.get("/v2/").by(&bearer(&token)).await.is(200);
    machine.run(&["logout"]).await.exits(0);
    challenge(&server.get("/v2/").by(&bearer(&token)).await);
    assert!(!machine.kept().contains("grn_t_"), "{}", machine.kept());
    let url = server.url("");
    for command in ["logout", "whoami"] {
        let ran = machine.run(&[command, "--server", &url]).await.exits(1);
        said(&ran, &format!("nobody is logged in to {url}"));
    }
}

#[tokio::test]
async fn a_log_out_that_the_server_does_not_hear_keeps_the_token() {
    let mut server = with_accounts(settings()).await;
    let machine = Machine::of(&server, "bob").await;
    let kept = machine.kept();
    server.stop().await;
    let ran = machine.run(&["logout"]).await.exits(1);
    said(&ran, "--local");
    assert_eq!(machine.kept(), kept);
    let arguments = ["logout", "--local", "--json"];
    let report = machine.run(&arguments).await.exits(0).json();
    assert_eq!(report["ended"], false);
    assert!(!machine.kept().contains("grn_t_"), "{}", machine.kept());
}

#[tokio::test]
async fn a_token_that_was_ended_elsewhere_is_told_from_a_wrong_one() {
    let server = with_accounts(settings()).await;
    let (here, there) = (
        Machine::of(&server, "bob").await,
        Machine::of(&server, "bob").await,
    );
    let tokens = here.run(&["token", "list", "--json"]).await.exits(0).json();
    let last = tokens.as_array().expect("a list").last().expect("a token");
    let id = last["id"].to_string();
    here.run(&["token", "revoke", &id]).await.exits(0);
    let ran = there.run(&["whoami"]).await.exits(1);
    said(&ran, "(UNAUTHORIZED): 'granary login http://");
    // Nothing is left to end.
    there.run(&["logout"]).await.exits(0);
    // One's own is the log-in itself.
    let first = tokens[0]["id"].to_string();
    let ran = here.run(&["token", "revoke", &first]).await.exits(0);
    said(&ran, "log-in, which is over");
    assert!(!here.kept().contains("grn_t_"), "{}", here.kept());
}

#[tokio::test]
async fn a_token_is_made_listed_used_and_ended() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let machine = Machine::of(&server, "bob").await;
    let arguments = ["token", "create", "ci", "--scope", "read:bob/**"];
    let arguments = [&arguments[..], &["--expires", "30d"]].concat();
    let ran = machine.run(&arguments).await.exits(0);
    said(&ran, "shown this once");
    let token = ran.stdout.trim_end().to_owned();
    assert_eq!(ran.stdout, format!("{token}\n"));
    assert!(token.starts_with("grn_t_"), "{token}");
    let by = bearer(&token);
    server.get("/v2/").by(&by).await.is(200);
    let manifest = "/v2/bob/app/manifests/a";
    server.get(manifest).by(&by).await.is(200);
    let deleted = server.delete(manifest).by(&by).await;
    deleted.refused(403, "DENIED");

    let list = machine.run(&["token", "list", "--json"]).await.exits(0);
    let made = row(&list.json(), "name", &json!("ci"));
    assert_eq!(
        made["scopes"],
        json!([{"verbs": ["read"], "repositories": "bob/**"}])
    );
    let list = machine.run(&["token", "list"]).await.exits(0).stdout;
    let line = list.lines().find(|line| line.contains(" ci "));
    let line = line.unwrap_or_else(|| panic!("no ci in {list}"));
    assert!(line.contains("read:bob/**"), "{line}");
    assert!(!list.contains(&token), "{list}");

    let id = made["id"].to_string();
    machine.run(&["token", "revoke", &id]).await.exits(0);
    challenge(&server.get("/v2/").by(&by).await);
    let ran = machine.run(&["token", "revoke", &id]).await.exits(1);
    said(&ran, "(NOT_FOUND)");
    let arguments = ["token", "create", "ci", "--expires", "0s"];
    said(&machine.run(&arguments).await.exits(2), "--expires");
}

#[tokio::test]
async fn a_token_of_the_environment_counts_and_is_not_kept() {
    let server = with_accounts(settings()).await;
    let bob = Machine::of(&server, "bob").await;
    let made = bob.run(&["token", "create", "ci"]).await.exits(0);
    let token = made.stdout.trim_end();
    let machine = Machine::new()
        .env("GRANARY_SERVER", &server.url("/"))
        .env("GRANARY_TOKEN", token);
    let account = machine.run(&["whoami", "--json"]).await.exits(0).json();
    assert_eq!(account["user"], "bob");
    assert!(!machine.folder().exists());
    let end = if token.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{end}", &token[..token.len() - 1]);
    let machine = Machine::new()
        .env("GRANARY_SERVER", &server.url(""))
        .env("GRANARY_TOKEN", &wrong);
    let ran = machine.run(&["whoami"]).await.exits(1);
    said(&ran, "GRANARY_TOKEN");
    assert!(!ran.stderr.contains(&wrong), "{}", ran.stderr);
    // Without a home too, for which there is no place but the environment.
    let mut command = granary();
    command
        .args(["whoami", "--json"])
        .env_remove("HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env("GRANARY_SERVER", server.url(""));
    said(&run(command).await.exits(1), "GRANARY_TOKEN");
}

#[tokio::test]
async fn a_token_that_was_brought_is_kept_and_not_ended() {
    let server = with_accounts(settings()).await;
    let bob = Machine::of(&server, "bob").await;
    let made = bob.run(&["token", "create", "mine"]).await.exits(0);
    let machine = Machine::new();
    let arguments = ["login", "--server", &server.url(""), "--token-stdin"];
    let ran = machine.run_with_input(&arguments, &made.stdout).await;
    assert!(ran.exits(0).stdout.contains(" as bob\n"));
    let token = made.stdout.trim_end();
    assert_eq!(machine.token(), token);
    let ran = machine.run(&["logout"]).await.exits(0);
    assert!(ran.stdout.contains("stays good"), "{}", ran.stdout);
    server.get("/v2/").by(&bearer(token)).await.is(200);
    let ran = machine.run_with_input(&arguments, "grn_t_none\n").await;
    said(&ran.exits(1), "(UNAUTHORIZED)");
}

#[tokio::test]
async fn rights_are_given_listed_and_taken_back() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let (bob, carol) = (
        Machine::of(&server, "bob").await,
        Machine::of(&server, "carol").await,
    );
    let manifest = || server.get("/v2/bob/app/manifests/a").by(&basic("carol"));
    manifest().await.refused(404, "NAME_UNKNOWN");
    let arguments = ["grant", "add", "carol", "read:bob/**", "--expires", "1h"];
    let ran = bob.run(&[&arguments[..], &["--json"]].concat()).await;
    let made = ran.exits(0).json();
    assert_eq!(
        (&made["to"], &made["verbs"]),
        (&json!("carol"), &json!(["read"]))
    );
    assert!(made["ends_at"].is_string(), "{made}");
    manifest().await.is(200);
    let list = bob.run(&["grant", "list", "bob", "--json"]).await;
    assert_eq!(list.exits(0).json(), json!([made]));
    let list = bob.run(&["grant", "list", "bob"]).await.exits(0).stdout;
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[1].contains("carol  read  bob/**"), "{list}");
    said(
        &carol.run(&["grant", "list", "bob"]).await.exits(1),
        "(NOT_FOUND)",
    );
    let id = made["id"].to_string();
    let done = bob.run(&["grant", "remove", &id, "--json"]).await.exits(0);
    assert_eq!(done.json(), json!({"ok": true}));
    manifest().await.refused(404, "NAME_UNKNOWN");
    let list = bob.run(&["grant", "list", "bob"]).await.exits(0);
    assert_eq!(list.stdout, "there are none\n");
}

#[tokio::test]
async fn an_organisation_is_looked_after_from_anywhere() {
    let server = with_accounts(settings()).await;
    let alice = Machine::of(&server, "alice").await;
    for line in [
        "org create acme --owner bob",
        "team create acme/core",
        "robot create acme+ci",
        "member set acme acme+ci write",
        "member set acme/core carol maintainer",
        "grant add acme/core read,write:acme/web/**",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        alice.run(&arguments).await.exits(0);
    }
    let list = async |line: &str| {
        let arguments: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        alice.run(&arguments).await.exits(0).json()
    };
    row(&list("org list").await, "organisation", &json!("acme"));
    row(&list("team list acme").await, "team", &json!("acme/core"));
    let members = list("member list acme").await;
    assert_eq!(row(&members, "member", &json!("acme+ci"))["role"], "write");
    assert_eq!(row(&members, "member", &json!("bob"))["role"], "owner");
    let core = list("member list acme/core").await;
    assert_eq!(row(&core, "member", &json!("carol"))["role"], "maintainer");
    let made = alice.run(&["robot", "token", "acme+ci", "deploy"]).await;
    let token = made.exits(0);
    let robot = basic_with("acme+ci", token.stdout.trim());
    server.get("/v2/").by(&robot).await.is(200);
    let events = list("audit list --action robot.create").await;
    row(&events, "target", &json!("acme+ci"));
    let refused = alice.run(&["member", "remove", "acme", "bob"]).await;
    said(&refused.exits(1), "nobody else owns");
    for line in [
        "team remove acme/core",
        "robot remove acme+ci",
        "org remove acme",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        alice.run(&arguments).await.exits(0);
    }
    server.get("/v2/").by(&robot).await.is(401);
}

#[tokio::test]
async fn a_namespace_is_shown_and_changed() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    let bob = Machine::of(&server, "bob").await;
    let shown = bob.run(&["namespace", "bob", "--json"]).await.exits(0);
    let shown = shown.json();
    assert_eq!(
        (&shown["owner"], &shown["default_visibility"]),
        (&json!("bob"), &json!("private"))
    );
    let arguments =
        "namespace bob --visibility public --create-by administrators --immutable-tags v*,w*";
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let text = bob.run(&arguments).await.exits(0).stdout;
    assert!(text.contains("public") && text.contains("v*,w*"), "{text}");
    let changed = bob.run(&["namespace", "bob", "--json"]).await.exits(0);
    let changed = changed.json();
    assert_eq!(changed["default_visibility"], "public");
    assert_eq!(changed["create_by"], "administrators");
    assert_eq!(changed["immutable_tags"], json!(["v*", "w*"]));
    let arguments = ["namespace", "bob", "--immutable-tags", "", "--json"];
    let changed = bob.run(&arguments).await.exits(0).json();
    assert_eq!(changed["immutable_tags"], json!([]));
    let carol = Machine::of(&server, "carol").await;
    said(
        &carol.run(&["namespace", "bob"]).await.exits(1),
        "(NOT_FOUND)",
    );
    said(&bob.run(&["namespace", ".."]).await.exits(2), "is no name");
}

#[tokio::test]
async fn lists_have_all_pages() {
    let server = with_accounts(settings()).await;
    push_image(&server, &basic("bob"), "bob/app", "a", &image(1)).await;
    for number in 0..101 {
        let grant =
            json!({"to": "carol", "verbs": ["read"], "repositories": format!("bob/r{number}")});
        let request = server.post("/api/v1/grants").by(&basic("bob"));
        let request = request.header("Content-Type", "application/json");
        request.body(grant.to_string()).await.is(201);
    }
    let bob = Machine::of(&server, "bob").await;
    let list = bob.run(&["grant", "list", "bob", "--json"]).await.exits(0);
    let list = list.json();
    assert_eq!(list.as_array().map(Vec::len), Some(101));
    row(&list, "repositories", &json!("bob/r100"));
}
