//! What is kept of a log-in, and when it is not used.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::json;

use super::{
    Machine, said,
    stub::{Stub, json_answer},
};
use crate::accounts::{password, settings, with_accounts};

#[tokio::test]
async fn what_others_can_read_or_write_is_not_used() {
    let server = with_accounts(settings()).await;
    let machine = Machine::of(&server, "bob").await;
    let (kept, file) = (machine.kept(), machine.file());
    let set = |path: PathBuf, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let url = server.url("");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set(file.clone(), mode);
        for arguments in [
            &["whoami"][..],
            &["logout"],
            &["token", "list"],
            &["login", &url, "--username", "bob", "--password-stdin"],
        ] {
            let ran = machine.run_with_input(arguments, &password("bob")).await;
            let ran = ran.exits(1);
            said(&ran, "chmod 600");
            assert_eq!((machine.kept(), ran.stdout.as_str()), (kept.clone(), ""));
        }
    }
    set(file, 0o600);
    set(machine.folder(), 0o770);
    let ran = machine.try_log_in(&server, "bob", &password("bob")).await;
    said(&ran.exits(1), "chmod 700");
    set(machine.folder(), 0o755);
    machine.run(&["whoami"]).await.exits(0);
}

#[tokio::test]
async fn a_broken_file_of_credentials_is_not_repeated() {
    let machine = Machine::new();
    fs::create_dir_all(machine.folder()).unwrap();
    fs::write(machine.file(), "token = grn_t_secret\n").unwrap();
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let ran = machine.run(&["whoami"]).await.exits(1);
    said(&ran, "credentials.toml is not as");
    assert!(!ran.stderr.contains("grn_t_secret"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_believed_once_that_is_named() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    let builder = settings()
        .env("GRANARY_SERVER__TLS_CERT", path("cert.pem"))
        .env("GRANARY_SERVER__TLS_KEY", path("key.pem"));
    let server = with_accounts(builder).await;
    let url = format!("https://localhost:{}", server.address().port());
    let machine = Machine::new();
    let arguments = ["login", &url, "--username", "bob", "--password-stdin"];
    let ran = machine.run_with_input(&arguments, &password("bob")).await;
    said(&ran.exits(1), "--ca FILE");
    let ca = path("cert.pem");
    let arguments = [&arguments[..], &["--ca", ca.to_str().unwrap()]].concat();
    let ran = machine.run_with_input(&arguments, &password("bob")).await;
    ran.exits(0);
    // The log-in remembers the authority.
    machine.run(&["whoami"]).await.exits(0);
}

/// What a server says to a log-in and to a rotation.
fn rotating() -> Stub {
    let refused = json!({"ok": false, "error": {"code": "UNAUTHORIZED", "message": "log in"}});
    Stub::start(move |asked| {
        let made = |id, token| json!({"ok": true, "data": {"id": id, "token": token}}).to_string();
        match asked.line.as_str() {
            "GET /api/v1/me" => json_answer(401, &refused.to_string()),
            "POST /api/v1/tokens" => json_answer(201, &made(7, "grn_t_first")),
            _ => json_answer(201, &made(9, "grn_t_second")),
        }
    })
}

#[tokio::test]
async fn a_log_in_goes_on_with_the_successor_of_its_token() {
    for (id, kept) in [("7", "grn_t_second"), ("8", "grn_t_first")] {
        let (stub, machine) = (rotating(), Machine::new());
        let url = stub.url();
        let arguments = ["login", &url, "--username", "bob", "--password-stdin"];
        let ran = machine.run_with_input(&arguments, &password("bob")).await;
        ran.exits(0);
        assert_eq!(machine.token(), "grn_t_first");
        let ran = machine.run(&["token", "rotate", id]).await.exits(0);
        assert_eq!(ran.stdout, "grn_t_second\n");
        assert_eq!(machine.token(), kept, "{id}");
    }
}
