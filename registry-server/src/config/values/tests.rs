//! What values of the configuration may be.

use super::*;

#[test]
fn addresses_need_a_host_and_a_port() {
    for text in ["127.0.0.1:5000", "[::1]:0", "localhost:5000"] {
        assert!(text.parse::<Listen>().is_ok(), "{text}");
    }
    for text in ["5000", ":5000", "127.0.0.1", "::1:5000", "127.0.0.1:70000"] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
}

#[test]
fn credentials_in_a_url_are_never_printed() {
    let url: SecretUrl = "http://user:hunter2@collector.example.org:4318/v1/traces?key=hunter2"
        .parse()
        .unwrap();
    assert_eq!(
        url.to_string(),
        "http://***@collector.example.org:4318/v1/traces?***"
    );
    assert!(!format!("{url:?}").contains("hunter2"));
    assert!(url.expose().contains("hunter2"));
    for text in [
        "ftp://user:hunter2@host/",
        "user:hunter2@host",
        "https://user:hunter2@host/",
    ] {
        let error = text.parse::<SecretUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn public_urls_are_origins() {
    for (text, origin) in [
        (
            "https://registry.example.org/",
            "https://registry.example.org",
        ),
        (
            "https://Registry.Example.org:443",
            "https://registry.example.org",
        ),
        ("http://10.0.0.1:80/", "http://10.0.0.1"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ] {
        assert_eq!(text.parse::<PublicUrl>().unwrap().as_str(), origin);
    }
    for text in [
        "registry.example.org",
        "https://h/registry",
        "https://u:p@h",
        "https://h/?a",
        "https://h/#a",
        "https:h",
        "https://",
    ] {
        assert!(text.parse::<PublicUrl>().is_err(), "{text}");
    }
}

#[test]
fn a_misspelt_level_is_refused() {
    assert!("inof".parse::<LogLevel>().is_err());
    assert!("info,granary_catalog=debug".parse::<LogLevel>().is_ok());
    assert!("WARN".parse::<LogLevel>().is_ok());
}
