use super::*;

fn load_toml(text: &str) -> Result<Config, String> {
    let folder = std::env::temp_dir().join(format!("granary-config-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("granary.toml");
    std::fs::write(&file, text).unwrap();
    let result = Config::load_from(
        LoadOptions {
            file: Some(file),
            ..LoadOptions::default()
        },
        [],
    );
    let shown = result.map_err(|error| error.to_string().replace(folder.to_str().unwrap(), ""));
    std::fs::remove_dir_all(&folder).unwrap();
    shown
}

fn load_env(variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load_from(LoadOptions::default(), variables).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_need_no_source() {
    let config = load_env(&[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:5000");
    assert_eq!(
        config.database.url.path().unwrap(),
        Path::new("./granary-data/granary.db")
    );
    assert_eq!(config.storage.fs.root, Path::new("./granary-data/blobs"));
    assert_eq!(config.storage.fs.reserve, 256 << 20);
    assert_eq!(config.gc.untagged, Untagged::Keep);
    assert!(config.policy.delete && !config.policy.sparse);
    assert_eq!(config.anonymous(false).unwrap(), Anonymous::Loopback);
}

#[test]
fn the_data_folder_moves_what_lies_in_it() {
    let options = LoadOptions {
        data: Some("/srv/granary".into()),
        ..LoadOptions::default()
    };
    let variables = [(
        "GRANARY_STORAGE__FS__ROOT".to_owned(),
        "/mnt/blobs".to_owned(),
    )];
    let config = Config::load_from(options, variables).unwrap();
    assert_eq!(config.data, Path::new("/srv/granary"));
    assert_eq!(
        config.database.url.to_string(),
        "sqlite:///srv/granary/granary.db"
    );
    assert_eq!(config.storage.fs.root, Path::new("/mnt/blobs"));
}

#[test]
fn flags_beat_the_environment_and_it_beats_the_file() {
    let folder = std::env::temp_dir().join(format!("granary-order-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("granary.toml");
    std::fs::write(
        &file,
        "[server]\nlisten = '127.0.0.1:1'\ndrain_timeout = '1s'\n[gc]\ngrace = '1s'\n",
    )
    .unwrap();
    let variables = [
        (
            "GRANARY_SERVER__LISTEN".to_owned(),
            "127.0.0.1:2".to_owned(),
        ),
        ("GRANARY_SERVER__DRAIN_TIMEOUT".to_owned(), "2s".to_owned()),
    ];
    let options = LoadOptions {
        file: Some(file),
        listen: Some("127.0.0.1:3".to_owned()),
        data: None,
    };
    let config = Config::load_from(options, variables).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3");
    assert_eq!(config.server.drain_timeout, Duration::from_secs(2));
    assert_eq!(config.gc.grace, Duration::from_secs(1));
    let shown = config.show().unwrap();
    assert!(
        shown.contains("listen = \"127.0.0.1:3\" # --listen\n"),
        "{shown}"
    );
    assert!(
        shown.contains(
            "drain_timeout = \"2s\" # environment variable GRANARY_SERVER__DRAIN_TIMEOUT\n"
        ),
        "{shown}"
    );
    assert!(shown.contains("granary.toml, line 5\n"), "{shown}");
}

#[test]
fn every_type_can_come_from_the_environment() {
    let config = load_env(&[
        ("GRANARY_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ("GRANARY_STORAGE__INLINE_MAX", "1024"),
        ("GRANARY_STORAGE__KIND", "memory"),
        ("GRANARY_STORAGE__FS__RESERVE", "1 GiB"),
        ("GRANARY_UPLOADS__MAX_PER_PRINCIPAL", "5"),
        ("GRANARY_POLICY__DELETE", "false"),
        ("GRANARY_GC__UNTAGGED", "30d"),
        ("GRANARY_LOG__FORMAT", "json"),
        ("GRANARY_SERVER__TLS_CERT", ""),
        ("GRANARY_SERVICE_HOST", "10.0.0.1"),
        ("GRANARY_PORT", "tcp://10.0.0.1:5000"),
    ])
    .unwrap();
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.storage.inline_max, 1024);
    assert_eq!(config.storage.kind, StorageKind::Memory);
    assert_eq!(config.storage.fs.reserve, 1 << 30);
    assert_eq!(config.uploads.max_per_principal.get(), 5);
    assert!(!config.policy.delete);
    assert_eq!(
        config.gc.untagged,
        Untagged::After(Duration::from_secs(30 * 86_400))
    );
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.server.tls_cert, None);
}

#[test]
fn errors_of_a_file_name_line_key_and_remedy() {
    for (text, expected) in [
        (
            "[server]\n\nlisen = '127.0.0.1:1'",
            "/granary.toml, line 3: server.lisen: this key is not known; did you mean server.listen?",
        ),
        (
            "[sever]\nlisten = '127.0.0.1:1'",
            "/granary.toml, line 2: sever.listen: this key is not known; did you mean server.listen?",
        ),
        (
            "[mongo]",
            "/granary.toml, line 1: mongo: this key is not known; `granary config show` lists those there are",
        ),
        (
            "[search]\nkind = 'embedded'",
            "/granary.toml, line 2: search.kind: this key is not known; `granary config show` lists those there are",
        ),
        (
            "server = 3",
            "/granary.toml, line 1: server: this is a section; its keys stand below a line [server]",
        ),
        (
            "[gc]\ngrace = '5 parsecs'",
            "/granary.toml, line 2: gc.grace: \"5 parsecs\" is not a duration; expected a duration such as \"30s\", \"24h\" or \"400d\"",
        ),
        (
            "[policy]\nsparse = 'yes'",
            "/granary.toml, line 2: policy.sparse: invalid type: string \"yes\", expected a boolean; expected true or false",
        ),
        (
            "[storage]\ninline_max = '2MiB'",
            "/granary.toml, line 2: storage.inline_max: 2097152 bytes are more than 1MiB; expected a number of bytes up to \"1MiB\", such as 65536 or \"64KiB\"",
        ),
        (
            "[storage]\nkind = 'tape'",
            "/granary.toml, line 2: storage.kind: unknown variant `tape`, expected one of `fs`, `s3`, `memory`; expected \"fs\", \"s3\" or \"memory\"",
        ),
        (
            "[gc]\ninterval = '0s'",
            "/granary.toml, line 2: gc.interval: one second is the least; expected a duration such as \"30s\", \"24h\" or \"400d\"",
        ),
        (
            "[server]\ntls_key = 'key.pem'",
            "/granary.toml, line 2: server.tls_key: it needs server.tls_cert beside it",
        ),
    ] {
        assert_eq!(load_toml(text).unwrap_err(), expected);
    }
    let broken = load_toml("[server]\nlisten = ").unwrap_err();
    assert!(
        broken.starts_with("/granary.toml, line 2: this is not TOML: "),
        "{broken}"
    );
    let missing = LoadOptions {
        file: Some("/nowhere/granary.toml".into()),
        ..LoadOptions::default()
    };
    assert!(
        Config::load_from(missing, [])
            .unwrap_err()
            .to_string()
            .starts_with("/nowhere/granary.toml: cannot be read")
    );
}

#[test]
fn secrets_of_back_ends_are_never_shown() {
    let config = Config::load_from(
        LoadOptions::default(),
        [
            (
                "GRANARY_DATABASE__URL",
                "postgres://granary:hunter2@db:5432/granary?options=hunter2",
            ),
            ("GRANARY_REDIS__URL", "redis://:hunter2@redis:6379"),
            ("GRANARY_STORAGE__KIND", "s3"),
            ("GRANARY_STORAGE__S3__BUCKET", "blobs"),
            ("GRANARY_STORAGE__S3__ACCESS_KEY_ID", "id"),
            ("GRANARY_STORAGE__S3__SECRET_ACCESS_KEY", "hunter2"),
            ("GRANARY_STORAGE__S3__REDIRECT_EXCEPT", "a,b"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    )
    .unwrap();
    for shown in [
        config.show().unwrap(),
        config.to_json().unwrap().to_string(),
        format!("{config:?}"),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("postgres://***@db:5432/granary"), "{shown}");
    }
    assert_eq!(config.storage.s3.redirect_except.len(), 2);
}

#[test]
fn errors_of_the_environment_name_the_variable() {
    for (name, value, expected) in [
        (
            "GRANARY_SERVER__LISEN",
            "x",
            "environment variable GRANARY_SERVER__LISEN: server.lisen: this key is not known; did you mean GRANARY_SERVER__LISTEN?",
        ),
        (
            "GRANARY_POLICY__SPARSE",
            "yes",
            "environment variable GRANARY_POLICY__SPARSE: policy.sparse: invalid type: string \"yes\", expected a boolean; expected true or false",
        ),
        (
            "GRANARY_UPLOADS__MAX_PER_PRINCIPAL",
            "0",
            "environment variable GRANARY_UPLOADS__MAX_PER_PRINCIPAL: uploads.max_per_principal: invalid type: string \"0\", expected a nonzero u32; expected a number of at least 1",
        ),
        (
            "GRANARY_SERVER_LISTEN",
            "x",
            "environment variable GRANARY_SERVER_LISTEN: server.listen: a section ends with two underscores: GRANARY_SERVER__LISTEN",
        ),
        (
            "GRANARY_DATABASE__URL",
            "mysql://granary:hunter2@db/granary",
            "environment variable GRANARY_DATABASE__URL: database.url: the database kind \"mysql\" is not known; expected \"sqlite://PATH\" or \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"",
        ),
        (
            "GRANARY_DATABASE__URL",
            "postgres://granary:hunter2@db",
            "environment variable GRANARY_DATABASE__URL: database.url: this URL names no database; expected \"sqlite://PATH\" or \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"",
        ),
        (
            "GRANARY_STORAGE__KIND",
            "s3",
            "default: storage.s3.bucket: storage.kind = \"s3\" needs a bucket",
        ),
        (
            "GRANARY_STORAGE__S3__SECRET_ACCESS_KEY",
            "hunter2",
            "default: storage.s3.access_key_id: access_key_id and secret_access_key go together; without both, the environment's credentials are used",
        ),
    ] {
        assert_eq!(load_env(&[(name, value)]).unwrap_err(), expected);
    }
}

#[test]
fn what_is_shown_hides_secrets_and_can_be_loaded_again() {
    let config = load_env(&[(
        "GRANARY_TELEMETRY__OTLP_ENDPOINT",
        "http://granary:hunter2@127.0.0.1:4318",
    )])
    .unwrap();
    let shown = config.show().unwrap();
    assert!(
        shown.contains("otlp_endpoint = \"http://***@127.0.0.1:4318/\""),
        "{shown}"
    );
    for text in [
        shown.clone(),
        config.to_json().unwrap().to_string(),
        format!("{config:?}"),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(
        config
            .telemetry
            .otlp_endpoint
            .as_ref()
            .map(SecretUrl::expose)
            .as_deref(),
        Some("http://granary:hunter2@127.0.0.1:4318/")
    );
    let again = load_toml(&shown).unwrap();
    assert_eq!(again.to_json().unwrap(), config.to_json().unwrap());
}

/// A key that serde knows and the list does not would be refused, and one that is only in the list
/// would be refused with a wrong text.
#[test]
fn the_list_of_keys_is_complete() {
    let config = load_env(&[
        ("GRANARY_SERVER__PUBLIC_URL", "https://registry.example.org"),
        ("GRANARY_SERVER__TLS_CERT", "cert.pem"),
        ("GRANARY_SERVER__TLS_KEY", "key.pem"),
        ("GRANARY_SERVER__METRICS_LISTEN", "127.0.0.1:9000"),
        ("GRANARY_TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:4318"),
        ("GRANARY_AUTH__KEY_FILE", "auth.key"),
        ("GRANARY_AUTH__OIDC__*__ISSUER", "https://login.example.org"),
        ("GRANARY_AUTH__OIDC__*__CLIENT_ID", "granary"),
        ("GRANARY_AUTH__OIDC__*__CLIENT_SECRET", "hunter2"),
        ("GRANARY_AUTH__OIDC__*__GROUPS_CLAIM", "groups"),
        (
            "GRANARY_AUTH__OIDC__*__AUTHORIZATION_URL",
            "https://login.example.org/a",
        ),
        (
            "GRANARY_AUTH__OIDC__*__TOKEN_URL",
            "https://login.example.org/t",
        ),
        (
            "GRANARY_AUTH__OIDC__*__API_URL",
            "https://login.example.org/api",
        ),
    ])
    .unwrap();
    let mut names = Vec::new();
    let mut open = vec![(String::new(), config.to_json().unwrap())];
    while let Some((path, value)) = open.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                open.extend(
                    fields
                        .into_iter()
                        .map(|(name, value)| (format!("{path}.{name}"), value)),
                );
            }
            _ if path == ".data" => {}
            _ => names.push(path[1..].to_owned()),
        }
    }
    names.sort();
    let mut listed: Vec<_> = keys::KEYS.iter().map(|key| key.name.to_owned()).collect();
    listed.sort();
    assert_eq!(names, listed);
}

#[test]
fn other_machines_are_served_only_on_request() {
    let config = load_env(&[("GRANARY_SERVER__LISTEN", "0.0.0.0:5000")]).unwrap();
    let error = config.anonymous(false).unwrap_err().to_string();
    assert!(
        error.starts_with(
            "environment variable GRANARY_SERVER__LISTEN: server.listen: 0.0.0.0:5000"
        ),
        "{error}"
    );
    assert!(error.contains("--allow-anonymous"), "{error}");
    assert_eq!(config.anonymous(true).unwrap(), Anonymous::Anyone);
    let config = load_env(&[("GRANARY_SERVER__LISTEN", "[::1]:0")]).unwrap();
    assert_eq!(config.anonymous(false).unwrap(), Anonymous::Loopback);
}

#[test]
fn providers_have_names_of_their_own() {
    let table = "[auth.oidc.corp]\npreset = \"gitlab\"\nclient_id = \"granary\"\nclient_secret = \"hunter2\"\n";
    let error = load_toml(table).unwrap_err();
    let expected = "line 3: auth.oidc.corp.client_id: it needs server.public_url";
    assert!(error.contains(expected), "{error}");
    let text = format!(
        "[server]\npublic_url = \"https://registry.example.org\"\n{table}[auth.oidc.hub]\npreset = \"github\"\n"
    );
    let config = load_toml(&text).unwrap();
    assert_eq!(config.auth.oidc["corp"].preset, ProviderPreset::GitLab);
    assert_eq!(config.auth.oidc["hub"].preset, ProviderPreset::GitHub);
    let shown = config.show().unwrap();
    for expected in [
        "[auth.oidc.corp]",
        "preset = \"gitlab\" #",
        "client_secret = \"***\" #",
        "# issuer: not set; the URL",
        "[auth.oidc.hub]",
    ] {
        assert!(shown.contains(expected), "{expected} in {shown}");
    }
    assert!(!shown.contains("hunter2"), "{shown}");
    let env = load_env(&[
        ("GRANARY_SERVER__PUBLIC_URL", "https://registry.example.org"),
        ("GRANARY_AUTH__OIDC__CORP__SCOPES", "openid, groups"),
    ]);
    assert_eq!(env.unwrap().auth.oidc["corp"].scopes, ["openid", "groups"]);
    for unknown in [
        "[auth.oidc]\ncorp = 1\n",
        "[auth.oidc.corp]\nisuer = \"a\"\n",
    ] {
        let error = load_toml(unknown).unwrap_err();
        assert!(error.contains("auth.oidc.corp"), "{error}");
    }
}
