//! The list of every key there is, which unknown ones are compared with.

/// A key and what its value looks like.
pub(super) struct Key {
    /// `section.key`, as in the file. A `*` stands for a name that people choose.
    pub(super) name: &'static str,
    /// The form of a good value, completing the sentence "expected ...".
    pub(super) expects: &'static str,
}

const fn key(name: &'static str, expects: &'static str) -> Key {
    Key { name, expects }
}

const ADDRESS: &str = "an address and a port such as \"127.0.0.1:5000\"";
const DURATION: &str = "a duration such as \"30s\", \"24h\" or \"400d\"";
const SIZE: &str = "a number of bytes such as 65536 or \"64KiB\"";
const PATH: &str = "a path";
const RATE: &str = "a number of requests in a second, minute or hour such as \"200/s\", \"5000/m\" or \"200/s burst 400\"";
const ORIGIN: &str = "an origin such as \"https://s3.example.org\"";
const SWITCH: &str = "true or false";

/// Every key, in the order `granary config show` prints them.
pub(super) const KEYS: &[Key] = &[
    key("server.listen", ADDRESS),
    key(
        "server.public_url",
        "an origin such as \"https://registry.example.org\"",
    ),
    key("server.tls_cert", PATH),
    key("server.tls_key", PATH),
    key("server.drain_timeout", DURATION),
    key("server.metrics_listen", ADDRESS),
    key(
        "server.trusted_proxies",
        "a list of addresses or blocks such as [\"10.0.0.0/8\"]",
    ),
    key(
        "database.url",
        "\"sqlite://PATH\" or \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"",
    ),
    key("database.max_connections", "a number of at least 1"),
    key("storage.kind", "\"fs\", \"s3\" or \"memory\""),
    key(
        "storage.inline_max",
        "a number of bytes up to \"1MiB\", such as 65536 or \"64KiB\"",
    ),
    key("storage.fs.root", PATH),
    key("storage.fs.reserve", SIZE),
    key("storage.fs.shared", SWITCH),
    key("storage.s3.endpoint", ORIGIN),
    key("storage.s3.public_endpoint", ORIGIN),
    key("storage.s3.region", "a region such as \"us-east-1\""),
    key("storage.s3.bucket", "the name of a bucket"),
    key("storage.s3.prefix", "a text such as \"granary/\""),
    key("storage.s3.access_key_id", "a text"),
    key("storage.s3.secret_access_key", "a text"),
    key("storage.s3.path_style", SWITCH),
    key("storage.s3.redirect", SWITCH),
    key("storage.s3.redirect_min", SIZE),
    key(
        "storage.s3.redirect_except",
        "a list of namespaces such as [\"private\"]",
    ),
    key("storage.s3.presign_ttl", DURATION),
    key("storage.s3.ca_file", PATH),
    key("redis.url", "\"redis://:PASSWORD@HOST:PORT\""),
    key("uploads.expiry", DURATION),
    key("uploads.max_per_principal", "a number of at least 1"),
    key("gc.grace", DURATION),
    key("gc.interval", DURATION),
    key("gc.untagged", "\"keep\", or an age such as \"30d\""),
    key("auth.anonymous", "\"none\", \"read\" or \"write\""),
    key("auth.key_file", PATH),
    key("auth.password_failures", "a number, 0 for no limit"),
    key("auth.password_min_length", "a number of at least 8"),
    key(
        "auth.password_memory",
        "a number of bytes from \"8MiB\" to \"256MiB\"",
    ),
    key("auth.password_iterations", "a number from 1 to 16"),
    key("auth.session", DURATION),
    key(
        "auth.oidc.*.preset",
        "\"generic\", \"google\", \"gitlab\", \"keycloak\" or \"github\"",
    ),
    key(
        "auth.oidc.*.issuer",
        "the URL by which the provider calls itself, such as \"https://login.example.org\"",
    ),
    key("auth.oidc.*.client_id", "a text"),
    key("auth.oidc.*.client_secret", "a text"),
    key(
        "auth.oidc.*.scopes",
        "a list of words such as [\"openid\", \"profile\", \"email\"]",
    ),
    key(
        "auth.oidc.*.groups_claim",
        "the name of a claim such as \"groups\" or \"realm_access.roles\"",
    ),
    key("auth.oidc.*.authorization_url", "a URL"),
    key("auth.oidc.*.token_url", "a URL"),
    key("auth.oidc.*.api_url", "a URL"),
    key("limits.address", RATE),
    key("limits.principal", RATE),
    key("limits.namespace", RATE),
    key("policy.sparse", SWITCH),
    key("policy.delete", SWITCH),
    key("tags.history", DURATION),
    key("log.format", "\"text\" or \"json\""),
    key(
        "log.level",
        "error, warn, info, debug, trace or off, or a filter such as \"info,granary_catalog=debug\"",
    ),
    key(
        "telemetry.otlp_endpoint",
        "an address such as \"http://127.0.0.1:4318\"",
    ),
];

/// The key of that name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let parts = name.split('.').count();
        key.name.split('.').count() == parts && begins(key.name, name)
    })
}

/// Whether a key begins with these parts.
fn begins(key: &str, parts: &str) -> bool {
    let mut known = key.split('.');
    parts.split('.').all(|part| {
        known
            .next()
            .is_some_and(|known| known == part || (known == "*" && !part.is_empty()))
    })
}

/// Whether `name` is a section, at any depth.
pub(super) fn is_section(name: &str) -> bool {
    let parts = name.split('.').count();
    KEYS.iter()
        .any(|key| key.name.split('.').count() > parts && begins(key.name, name))
}

/// The key that was probably meant: the nearest by spelling, or the same word in another section.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let word = name.rsplit('.').next().unwrap_or(name);
    let by_spelling = KEYS
        .iter()
        .map(|key| (distance(name, key.name), key.name))
        .min()
        .filter(|(distance, key)| *distance <= 2.max(last(key).len() / 3));
    let section = name.split('.').next().unwrap_or_default();
    let same_word = || {
        KEYS.iter()
            .find(|key| last(key.name) == word)
            .map(|key| key.name)
    };
    by_spelling
        .map(|(_, key)| key)
        .or_else(|| same_word().filter(|_| is_section(section)))
}

/// The environment variable that sets a key.
pub(super) fn variable(name: &str) -> String {
    format!("GRANARY_{}", name.replace('.', "__").to_uppercase())
}

/// The number of insertions, deletions and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        assert_eq!(nearest("server.lisen"), Some("server.listen"));
        assert_eq!(nearest("sever.listen"), Some("server.listen"));
        assert_eq!(nearest("storage.reserve"), Some("storage.fs.reserve"));
        assert_eq!(nearest("storage.expiry"), Some("uploads.expiry"));
        assert_eq!(nearest("mongo.uri"), None);
        assert_eq!(nearest("colour.scheme"), None);
    }

    #[test]
    fn sections_are_told_from_keys() {
        assert!(is_section("storage") && is_section("storage.fs"));
        assert!(!is_section("storage.kind") && !is_section("stor"));
    }
}
