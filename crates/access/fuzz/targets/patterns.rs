//! Patterns, scopes, addresses and names of accounts: what is taken prints as what it is, and means what it says. The
//! first line is the text that is parsed, the rest a name and a tag that a pattern is asked about, or a second pattern.
#![no_main]

use std::{
    fmt::{Debug, Display},
    net::IpAddr,
    str::FromStr,
};

use granary_access::{
    AddressBlock, AddressBlocks, Handle, RepositoryPattern, RobotHandle, Scope, Scopes, TagPattern,
    TagPatterns, TeamHandle,
};
use granary_oci::{RepositoryName, Tag};
use libfuzzer_sys::fuzz_target;
use serde_json::{from_slice, to_vec};

fuzz_target!(|bytes: &[u8]| {
    json::<Scopes>(bytes);
    json::<TagPatterns>(bytes);
    json::<AddressBlocks>(bytes);
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let (text, other) = text.split_once('\n').unwrap_or((text, "library/app"));
    repositories(text, other);
    tags(text, other);
    scope(text);
    addresses(text, other);
    accounts(text);
});

fn repositories(text: &str, other: &str) {
    let Some(pattern) = taken::<RepositoryPattern>(text) else {
        return;
    };
    assert_eq!(pattern.to_string(), text);
    assert!(pattern.covers(&pattern) && RepositoryPattern::all().covers(&pattern));
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(pattern, RepositoryPattern::exactly(&name));
        assert!(pattern.matches(&name));
    }
    if let Some(prefix) = text.strip_suffix("/**") {
        let parent: RepositoryName = prefix.parse().expect("a prefix is a name");
        assert!(!pattern.matches(&parent), "{text} has its own parent");
        assert_eq!(pattern.namespace(), prefix.split('/').next());
    }
    let Ok(name) = other.parse::<RepositoryName>() else {
        return;
    };
    // Three ways to ask the same.
    let matches = pattern.matches(&name);
    let (low, high) = pattern.range();
    assert_eq!(
        matches,
        (low.as_str()..=high.as_str()).contains(&name.as_str())
    );
    assert_eq!(
        matches,
        RepositoryPattern::texts_for(&name).any(|one| one == text)
    );
    for narrow in RepositoryPattern::texts_for(&name) {
        let narrow: RepositoryPattern = narrow.parse().expect("the text of a pattern");
        assert!(narrow.matches(&name));
        assert!(!pattern.covers(&narrow) || matches);
    }
}

fn tags(text: &str, other: &str) {
    let Some(pattern) = taken::<TagPattern>(text) else {
        return;
    };
    assert_eq!(pattern.to_string(), text);
    if let Ok(tag) = text.parse::<Tag>() {
        assert!(pattern.matches(&tag));
    }
    if let Ok(tag) = other.parse::<Tag>() {
        let matches = pattern.matches(&tag);
        assert_eq!(matches, is_meant(text.as_bytes(), other.as_bytes()));
        let list = TagPatterns::of(vec![pattern]).expect("one is not too many");
        assert_eq!(list.matches(&tag), matches);
    }
}

/// Whether `pattern` means `tag`, by its definition: which of its beginnings mean which of the tag's.
fn is_meant(pattern: &[u8], tag: &[u8]) -> bool {
    let mut beginnings = vec![false; tag.len() + 1];
    beginnings[0] = true;
    for letter in pattern {
        beginnings = match letter {
            b'*' => beginnings
                .iter()
                .scan(false, |any, is_meant| {
                    *any |= is_meant;
                    Some(*any)
                })
                .collect(),
            _ => (0..=tag.len())
                .map(|at| at > 0 && tag[at - 1] == *letter && beginnings[at - 1])
                .collect(),
        };
    }
    beginnings[tag.len()]
}

/// A scope, written again from its parts, is the same, on the command line and in JSON.
fn scope(text: &str) {
    let Some(scope) = read::<Scope>(text) else {
        return;
    };
    let mut again = format!("{}:{}", scope.verbs, scope.repositories);
    if let Some(patterns) = Option::<Vec<TagPattern>>::from(scope.tags.clone()) {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        again = format!("{again}:{}", patterns.join(","));
    }
    assert_eq!(again.parse().as_ref(), Ok(&scope), "{again}");
    json::<Scope>(&to_vec(&scope).expect("a scope has a JSON form"));
}

fn addresses(text: &str, other: &str) {
    let Some(block) = taken::<AddressBlock>(text) else {
        return;
    };
    let shown = block.to_string();
    let (address, prefix) = shown.split_once('/').expect("a block has a prefix");
    let address: IpAddr = address.parse().expect("a block has an address");
    let prefix: u8 = prefix.parse().expect("a prefix is a number");
    // An IPv4 address mapped into IPv6 counts as IPv4, which a block that has more than such addresses is not.
    let is_mapped = address.to_canonical() != address;
    assert!(!is_mapped || prefix < 96, "{shown} matches nobody");
    assert_eq!(block.contains(address), !is_mapped, "{shown}");
    let Ok(client) = other.parse::<IpAddr>() else {
        return;
    };
    let (own, asked) = (bits(address), bits(client.to_canonical()));
    let is_inside = own.0 == asked.0 && (0..prefix).all(|at| bit(own, at) == bit(asked, at));
    assert_eq!(block.contains(client), is_inside, "{shown} {client}");
}

/// How many bits an address has, and they.
fn bits(address: IpAddr) -> (u8, u128) {
    match address {
        IpAddr::V4(address) => (32, address.to_bits().into()),
        IpAddr::V6(address) => (128, address.to_bits()),
    }
}

fn bit((length, bits): (u8, u128), at: u8) -> u128 {
    bits >> (length - 1 - at) & 1
}

/// Nobody can have a name that is taken for somebody else's.
fn accounts(text: &str) {
    let handle = taken::<Handle>(text);
    if let Some(handle) = &handle {
        assert_eq!(handle.as_str(), text);
        let namespace: RepositoryName = text.parse().expect("a handle names a namespace");
        assert!(namespace.as_str() == text && !text.contains('/'));
    }
    if let Some(team) = taken::<TeamHandle>(text) {
        let (organisation, name) = text.split_once('/').expect("a team has a slash");
        assert_eq!(team.organisation(), organisation);
        assert!(organisation.parse::<Handle>().is_ok());
        assert_eq!(TeamHandle::of(organisation, name), Ok(team));
        assert!(handle.is_none());
    }
    if let Some(robot) = taken::<RobotHandle>(text) {
        let (owner, name) = text.split_once('+').expect("a robot has a plus");
        assert_eq!(robot.owner(), owner);
        assert!(owner.parse::<Handle>().is_ok());
        assert_eq!(RobotHandle::of(owner, name), Ok(robot));
        assert!(handle.is_none() && text.parse::<RepositoryName>().is_err());
    }
}

/// What `text` is, if it is one; then it is also what that prints.
fn taken<T: FromStr<Err: Display + Debug> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = read::<T>(text)?;
    let again: T = value.to_string().parse().expect("what is printed is taken");
    assert_eq!(again, value);
    Some(value)
}

/// What `text` is, or nothing and an error of few words that may stand on a terminal.
fn read<T: FromStr<Err: Display>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let error = error.to_string();
            assert!(
                error.len() < 2000 && !error.contains(char::is_control),
                "{error:?}"
            );
            None
        }
    }
}

/// What is taken from JSON comes back from its own.
fn json<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = from_slice::<T>(bytes) {
        let again = to_vec(&value).expect("it has a JSON form");
        assert_eq!(from_slice::<T>(&again).expect("it is taken again"), value);
    }
}
