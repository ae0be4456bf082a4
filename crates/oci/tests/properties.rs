//! What must hold of every input, checked on generated ones.
//!
//! Grammars are compared with the expressions of the specification, run by a matcher of this file's own
//! ([`Grammar`]) that shares nothing with the parsers under test.

use std::{collections::BTreeSet, str::FromStr};

use granary_oci::{
    Algorithm, ByteRange, ContentRange, Digest, Edge, EdgeKind, Hasher, Manifest, RangeSet,
    Reference, RepositoryName, Tag,
};
use proptest::{collection::vec, prelude::*, sample::Index, string::string_regex};
use serde_json::{Value, json};

/// A regular expression as a tree, matched by the set of places where it can end.
enum Grammar {
    /// One byte that satisfies the predicate.
    Byte(fn(u8) -> bool),
    /// These bytes exactly.
    Text(&'static str),
    /// One behind the other.
    Sequence(Vec<Grammar>),
    /// Any of these.
    Choice(Vec<Grammar>),
    /// So many times, at least and at most.
    Repeat(Box<Grammar>, usize, usize),
}

impl Grammar {
    fn matches(&self, text: &str) -> bool {
        self.ends(text.as_bytes(), &BTreeSet::from([0]))
            .contains(&text.len())
    }

    fn ends(&self, text: &[u8], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
        match self {
            Self::Byte(fits) => starts
                .iter()
                .filter(|&&at| text.get(at).is_some_and(|&byte| fits(byte)))
                .map(|at| at + 1)
                .collect(),
            Self::Text(expected) => starts
                .iter()
                .filter(|&&at| text[at..].starts_with(expected.as_bytes()))
                .map(|at| at + expected.len())
                .collect(),
            Self::Sequence(parts) => parts
                .iter()
                .fold(starts.clone(), |starts, part| part.ends(text, &starts)),
            Self::Choice(parts) => parts
                .iter()
                .flat_map(|part| part.ends(text, starts))
                .collect(),
            Self::Repeat(part, least, most) => {
                let (mut round, mut ends) = (starts.clone(), BTreeSet::new());
                for times in 0..=*most {
                    if times >= *least {
                        ends.extend(&round);
                    }
                    round = part.ends(text, &round);
                    if round.is_empty() || (times >= *least && round.is_subset(&ends)) {
                        break;
                    }
                }
                ends
            }
        }
    }
}

fn repeat(part: Grammar, least: usize, most: usize) -> Grammar {
    Grammar::Repeat(Box::new(part), least, most)
}

/// `<name>` of the distribution specification, "Pulling manifests", with bounds for `+` and `*` that let most texts stay
/// below 255 bytes:
///
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
const NAME: &str = r"[a-z0-9]{1,7}((\.|_|__|-{1,4})[a-z0-9]{1,7}){0,4}(/[a-z0-9]{1,7}((\.|_|__|-{1,4})[a-z0-9]{1,7}){0,4}){0,6}";

/// The longest content there can be: the catalog keeps lengths as `i64`.
const LONGEST: u64 = i64::MAX as u64;

fn name_grammar() -> Grammar {
    use Grammar::{Byte, Choice, Sequence, Text};
    let word = || {
        let letter = Byte(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        repeat(letter, 1, usize::MAX)
    };
    let component = || {
        let dashes = repeat(Text("-"), 1, usize::MAX);
        let separator = Choice(vec![Text("."), Text("_"), Text("__"), dashes]);
        let rest = Sequence(vec![separator, word()]);
        Sequence(vec![word(), repeat(rest, 0, usize::MAX)])
    };
    let rest = Sequence(vec![Text("/"), component()]);
    Sequence(vec![component(), repeat(rest, 0, usize::MAX)])
}

/// `<reference>` as a tag, from the same place.
const TAG: &str = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}";

fn tag_grammar() -> Grammar {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let other = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    Grammar::Sequence(vec![
        Grammar::Byte(first),
        repeat(Grammar::Byte(other), 0, 127),
    ])
}

fn matching(expression: &str) -> BoxedStrategy<String> {
    match string_regex(expression) {
        Ok(texts) => texts.boxed(),
        Err(error) => panic!("{expression}: {error}"),
    }
}

/// Texts that are nearly names or tags, so that both answers come often.
fn nearly() -> impl Strategy<Value = String> {
    prop_oneof![
        matching("[a-c0A._/-]{0,12}"),
        matching("[ab]{1,2}([._/-]{1,3}[ab]{1,2}){0,3}"),
        matching("[a-zA-Z0-9._/:@%é\n-]{0,140}"),
        // Around the limits of 128 and 255 bytes.
        (126..131_usize).prop_map(|length| "a".repeat(length)),
        (253..258_usize).prop_map(|length| "a".repeat(length)),
        any::<String>(),
    ]
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::Sha256), Just(Algorithm::Sha512)]
}

fn digest() -> impl Strategy<Value = Digest> {
    (algorithm(), vec(any::<u8>(), 0..40)).prop_map(|(algorithm, bytes)| algorithm.digest(&bytes))
}

/// Whether a parser takes a text; what it takes it must print as it came.
fn taken<T: FromStr + ToString>(text: &str) -> bool {
    let parsed = text.parse::<T>().ok();
    if let Some(value) = &parsed {
        assert_eq!(value.to_string(), text, "what was taken prints differently");
    }
    parsed.is_some()
}

/// An error that a client or a log may be shown: bounded, and without control characters.
fn assert_presentable(error: &dyn std::error::Error) {
    let text = error.to_string();
    assert!(
        text.len() < 20_000,
        "an error of {} bytes repeats too much of its input",
        text.len()
    );
    assert!(!text.contains(char::is_control), "{text:?}");
}

proptest! {
    #[test]
    fn every_name_of_the_specification_is_taken(name in matching(NAME)) {
        prop_assert!(name_grammar().matches(&name), "the matcher of this test is wrong");
        prop_assert_eq!(taken::<RepositoryName>(&name), name.len() <= 255);
    }

    #[test]
    fn no_other_name_is_taken(text in nearly()) {
        let expected = text.len() <= 255 && name_grammar().matches(&text);
        prop_assert_eq!(taken::<RepositoryName>(&text), expected);
        if let Err(error) = text.parse::<RepositoryName>() {
            assert_presentable(&error);
        }
    }

    #[test]
    fn the_namespace_is_the_first_of_several_segments(name in matching("[a-z]{1,3}(/[a-z]{1,3}){0,3}")) {
        let parsed: RepositoryName = name.parse()?;
        let segments: Vec<&str> = name.split('/').collect();
        prop_assert_eq!(parsed.namespace(), if segments.len() > 1 { segments[0] } else { "library" });
    }

    #[test]
    fn every_tag_of_the_specification_is_taken(tag in matching(TAG)) {
        prop_assert!(tag_grammar().matches(&tag), "the matcher of this test is wrong");
        prop_assert!(taken::<Tag>(&tag));
    }

    #[test]
    fn no_other_tag_is_taken(text in nearly()) {
        prop_assert_eq!(taken::<Tag>(&text), tag_grammar().matches(&text));
        if let Err(error) = text.parse::<Tag>() {
            assert_presentable(&error);
        }
    }

    #[test]
    fn a_reference_is_a_digest_if_it_has_a_colon_and_else_a_tag(text in prop_oneof![nearly(), digest().prop_map(|d| d.to_string())]) {
        taken::<Reference>(&text);
        match text.parse::<Reference>() {
            Ok(Reference::Tag(tag)) => prop_assert_eq!(tag.as_str(), text),
            Ok(Reference::Digest(digest)) => prop_assert_eq!(digest.to_string(), text),
            Err(error) => {
                prop_assert!(text.parse::<Tag>().is_err() && text.parse::<Digest>().is_err());
                assert_presentable(&error);
            }
        }
    }

    #[test]
    fn a_digest_survives_every_form_it_has(digest in digest()) {
        let text = digest.to_string();
        let hash: String = digest.hash().iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(&text, &format!("{}:{hash}", digest.algorithm()));
        prop_assert_eq!(text.parse(), Ok(digest));
        prop_assert_eq!(Digest::from_bytes(&digest.to_bytes()), Some(digest));
        prop_assert_eq!(Digest::from_hash(digest.algorithm(), digest.hash()), Some(digest));
        let json = serde_json::to_string(&digest)?;
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<Digest>(&json)?, digest);
    }

    #[test]
    fn a_digest_with_another_character_is_another_or_none(digest in digest(), place in any::<Index>(), other in any::<char>()) {
        let mut characters: Vec<char> = digest.to_string().chars().collect();
        let place = place.index(characters.len());
        prop_assume!(characters[place] != other);
        characters[place] = other;
        let text: String = characters.into_iter().collect();
        match text.parse::<Digest>() {
            Ok(another) => {
                prop_assert_ne!(another, digest);
                prop_assert!(taken::<Digest>(&text));
            }
            Err(error) => assert_presentable(&error),
        }
    }

    #[test]
    fn no_other_text_or_bytes_make_a_digest(text in prop_oneof![any::<String>(), matching("(sha256|sha512|md5):[0-9a-fA-F]{60,132}")], bytes in vec(any::<u8>(), 0..70)) {
        let form = |prefix: &str, length: usize| {
            text.strip_prefix(prefix).is_some_and(|hash| {
                hash.len() == length && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            })
        };
        prop_assert_eq!(taken::<Digest>(&text), form("sha256:", 64) || form("sha512:", 128));
        if let Some(digest) = Digest::from_bytes(&bytes) {
            prop_assert_eq!(digest.to_bytes(), bytes);
        }
    }
}

// --- hashing ---

proptest! {
    #[test]
    fn hashing_with_interruptions_equals_hashing_at_once(
        bytes in vec(any::<u8>(), 0..2000),
        cuts in vec(any::<Index>(), 0..6),
        named in proptest::option::of(algorithm()),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut hasher, mut done) = (Hasher::new(named), 0);
        for cut in cuts {
            hasher.update(&bytes[done..cut]);
            let state = hasher.export();
            hasher = Hasher::import(&state)?;
            prop_assert_eq!(hasher.export(), state);
            done = cut;
        }
        prop_assert_eq!(hasher.fresh().export(), Hasher::new(named).export());
        hasher.update(&bytes[done..]);
        prop_assert_eq!(hasher.digest(Algorithm::Sha256), Some(Algorithm::Sha256.digest(&bytes)));
        let second = (named == Some(Algorithm::Sha512)).then(|| Algorithm::Sha512.digest(&bytes));
        prop_assert_eq!(hasher.digest(Algorithm::Sha512), second);
    }

    #[test]
    fn a_state_that_can_be_read_is_read_whole(
        bytes in vec(any::<u8>(), 0..300),
        place in any::<Index>(),
        value in any::<u8>(),
        rest in vec(any::<u8>(), 0..3),
    ) {
        let mut hasher = Hasher::new(Some(Algorithm::Sha512));
        hasher.update(&bytes);
        let mut state = hasher.export();
        let place = place.index(state.len());
        state[place] = value;
        state.extend(rest);
        if let Ok(taken) = Hasher::import(&state) {
            prop_assert_eq!(taken.export(), state);
        }
    }
}

// --- ranges ---

/// Values around `u64`'s end and around small lengths.
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_u64, any::<u64>(), (u64::MAX - 3)..=u64::MAX]
}

fn range_header() -> impl Strategy<Value = String> {
    let spec = prop_oneof![
        8 => (position(), position()).prop_map(|(first, last)| format!("{first}-{last}")),
        4 => position().prop_map(|first| format!("{first}-")),
        4 => position().prop_map(|suffix| format!("-{suffix}")),
        1 => matching("[0-9+ -]{0,25}"),
    ];
    prop_oneof![
        8 => vec(spec, 1..20).prop_map(|specs| format!("bytes={}", specs.join(","))),
        1 => any::<String>(),
    ]
}

fn chunk_range() -> impl Strategy<Value = String> {
    prop_oneof![
        (position(), position()).prop_map(|(first, last)| format!("{first}-{last}")),
        (0..3_u64).prop_map(|first| format!("{first}-{}", u64::MAX)),
        matching("(bytes )?[0-9+]{0,21}-?[0-9]{0,21}(/[0-9*])?"),
        any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_range_leaves_the_content(header in range_header(), length in position().prop_map(|length| length.min(LONGEST))) {
        let inside = |range: &ByteRange| range.first <= range.last && range.last < length;
        match RangeSet::parse(&header, length) {
            Ok(RangeSet::Whole) => {}
            Ok(RangeSet::One(range)) => prop_assert!(inside(&range)),
            Ok(RangeSet::Several(ranges)) => {
                prop_assert!((2..=16).contains(&ranges.len()));
                prop_assert!(ranges.iter().all(inside));
                let sum: u128 = ranges.iter().map(|range| u128::from(range.length())).sum();
                prop_assert!(sum <= u128::from(length), "{sum} bytes of {length}");
            }
            Err(error) => assert_presentable(&error),
        }
    }

    #[test]
    fn a_range_selects_the_bytes_rfc_9110_says(first in 0..12_u64, last in 0..12_u64, suffix in 0..12_u64, length in 0..10_u64) {
        let selected = |header: String| match RangeSet::parse(&header, length) {
            Ok(RangeSet::One(range)) => (range.first..=range.last).collect(),
            Ok(other) => panic!("{header}: {other:?}"),
            Err(_) => Vec::new(),
        };
        let closed: Vec<u64> = (0..length).filter(|byte| (first..=last).contains(byte)).collect();
        prop_assert_eq!(selected(format!("bytes={first}-{last}")), closed);
        let open: Vec<u64> = (0..length).filter(|&byte| byte >= first).collect();
        prop_assert_eq!(selected(format!("bytes={first}-")), open);
        let end: Vec<u64> = (0..length).filter(|byte| byte + suffix >= length).collect();
        prop_assert_eq!(selected(format!("bytes=-{suffix}")), end);
    }

    #[test]
    fn a_chunk_range_reads_back(first in position(), length in position(), total in any::<u64>()) {
        let range = length.checked_sub(1).and_then(|more| first.checked_add(more)).filter(|&last| last < u64::MAX);
        let Some(last) = range else { return Ok(()) };
        let expected = ContentRange { first, last };
        prop_assert_eq!(expected.length(), length);
        prop_assert_eq!(format!("{first}-{last}").parse(), Ok(expected));
        prop_assert_eq!(format!("bytes {first}-{last}/{total}").parse(), Ok(expected));
        let reversed = format!("{last}-{first}");
        prop_assert_eq!(reversed.parse::<ContentRange>().is_ok(), first == last);
    }

    #[test]
    fn no_other_chunk_range_is_taken(text in chunk_range()) {
        match text.parse::<ContentRange>() {
            Ok(range) => {
                let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
                let plain = text.strip_prefix("bytes ").unwrap_or(&text);
                let plain = plain.split('/').next().unwrap_or_default();
                let parts: Vec<&str> = plain.split('-').collect();
                prop_assert!(parts.len() == 2 && parts.iter().all(|part| digits(part)), "{text:?}");
                prop_assert_eq!((range.first, range.last), (parts[0].parse()?, parts[1].parse()?));
                prop_assert!(range.first <= range.last && range.length() > 0);
            }
            Err(error) => assert_presentable(&error),
        }
    }
}

// --- manifests ---

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// A descriptor, of few digests so that some come twice.
fn descriptor() -> impl Strategy<Value = Value> {
    let digests = (0..6_u8, algorithm())
        .prop_map(|(content, algorithm)| algorithm.digest(&[content]).to_string());
    let types = prop_oneof![4 => Just("application/x"), 1 => Just(FOREIGN)];
    (digests, types, any::<u32>(), any::<bool>()).prop_map(|(digest, media_type, size, more)| {
        let mut descriptor = json!({"mediaType": media_type, "digest": digest, "size": size});
        if more {
            descriptor["annotations"] = json!({"org.example": "value"});
        }
        descriptor
    })
}

fn valid_manifest() -> impl Strategy<Value = Value> {
    let image = (
        descriptor(),
        vec(descriptor(), 0..5),
        vec(descriptor(), 0..2),
    )
        .prop_map(|(config, layers, blobs)| json!({"schemaVersion": 2, "config": config, "layers": layers, "blobs": blobs}));
    let index = vec(descriptor(), 0..5)
        .prop_map(|manifests| json!({"schemaVersion": 2, "manifests": manifests}));
    // serde_json stops at a depth of 128, and each round is two deep.
    let deep = proptest::option::of((0..60_usize, descriptor()));
    let subject = proptest::option::of(descriptor());
    (prop_oneof![image, index], subject, deep).prop_map(|(mut manifest, subject, deep)| {
        if let Some(subject) = subject {
            manifest["subject"] = subject;
        }
        if let Some((depth, descriptor)) = deep {
            manifest["x-custom"] =
                (0..depth).fold(descriptor, |inner, _| json!({"inner": [inner]}));
        }
        manifest
    })
}

/// JSON that is no more than JSON.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop_oneof![
        Just("digest".to_owned()),
        Just("mediaType".to_owned()),
        Just("layers".to_owned()),
        Just("config".to_owned()),
        Just("manifests".to_owned()),
        Just("blobs".to_owned()),
        Just("subject".to_owned()),
        Just("size".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        digest().prop_map(|digest| Value::from(digest.to_string())),
        descriptor(),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(words.clone(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// The edge of a manifest to the digest of `descriptor`.
fn edge<'m>(manifest: &'m Manifest, descriptor: &Value) -> Option<&'m Edge> {
    let digest: Digest = descriptor["digest"].as_str()?.parse().ok()?;
    manifest.edges.iter().find(|edge| edge.digest == digest)
}

fn assert_sound(manifest: &Manifest) {
    let digests: BTreeSet<Digest> = manifest.edges.iter().map(|edge| edge.digest).collect();
    assert_eq!(
        digests.len(),
        manifest.edges.len(),
        "a digest stands there twice"
    );
    let digest = Digest::sha256(b"the manifest");
    let text = manifest.referrer_descriptor(&digest, 12);
    let descriptor: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(descriptor["digest"], json!(digest));
    assert_eq!(descriptor["size"], json!(12));
    assert_eq!(descriptor["mediaType"], json!(manifest.media_type));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in vec(any::<u8>(), 0..500), content_type in proptest::option::of(any::<String>())) {
        match Manifest::parse(&body, content_type.as_deref()) {
            Ok(manifest) => assert_sound(&manifest),
            Err(error) => assert_presentable(&error),
        }
    }

    #[test]
    fn arbitrary_json_never_panics(value in any_json(), content_type in proptest::option::of(any::<String>())) {
        match Manifest::parse(value.to_string().as_bytes(), content_type.as_deref()) {
            Ok(manifest) => assert_sound(&manifest),
            Err(error) => assert_presentable(&error),
        }
    }

    #[test]
    fn everything_a_valid_manifest_needs_is_an_edge(value in valid_manifest()) {
        let manifest = Manifest::parse(value.to_string().as_bytes(), None)?;
        assert_sound(&manifest);
        let list = |field: &str| value[field].as_array().cloned().unwrap_or_default();
        let (mut content, mut everything) = (BTreeSet::new(), BTreeSet::new());
        let named = [value["config"].clone()].into_iter().chain(list("layers")).chain(list("blobs"));
        for descriptor in named.filter(Value::is_object) {
            let found = edge(&manifest, &descriptor);
            prop_assert!(found.is_some(), "{descriptor} is no edge");
            everything.extend(found.map(|edge| edge.digest));
            if descriptor["mediaType"] != FOREIGN {
                content.extend(found.map(|edge| edge.digest));
            }
        }
        for descriptor in list("manifests") {
            let found = edge(&manifest, &descriptor);
            prop_assert!(found.is_some_and(|edge| edge.kind == EdgeKind::Child), "{descriptor} is no child");
            everything.extend(found.map(|edge| edge.digest));
        }
        let mut inner = &value["x-custom"];
        while let Some(next) = inner["inner"].get(0) {
            inner = next;
        }
        everything.extend(edge(&manifest, inner).map(|edge| edge.digest));
        prop_assert_eq!(inner.is_object(), edge(&manifest, inner).is_some());
        for edge in &manifest.edges {
            prop_assert!(everything.contains(&edge.digest), "{} stands nowhere", edge.digest);
            prop_assert_eq!(edge.kind == EdgeKind::Content, content.contains(&edge.digest));
        }
        let subject = value["subject"]["digest"].as_str().map(str::parse).transpose()?;
        prop_assert_eq!(manifest.subject, subject);
    }
}

#[test]
fn a_refusal_does_not_repeat_the_body() {
    let body = format!("\"{}\"", "a".repeat(1 << 20));
    match Manifest::parse(body.as_bytes(), None) {
        Ok(manifest) => panic!("{manifest:?}"),
        Err(error) => assert_presentable(&error),
    }
}

/// A field's name was once copied for every item below it: a body of 4 MiB took a minute.
#[test]
fn a_long_field_name_is_not_copied_for_every_item() {
    let body = format!(
        "{{\"{}\":[0{}]}}",
        "k".repeat(2 << 20),
        ",0".repeat((1 << 20) - 100)
    );
    assert!(body.len() <= granary_oci::MAX_MANIFEST_BYTES);
    let began = std::time::Instant::now();
    assert!(Manifest::parse(body.as_bytes(), None).is_ok());
    let took = began.elapsed();
    assert!(took.as_secs() < 10, "{took:?}");
}
