//! How rows are hashed and what is signed. A change here makes every log that there is unreadable.

use granary_catalog::{AuditCheckpoint, AuditRow};
use granary_oci::Digest;

/// What the chain of an installation begins with.
pub(super) fn genesis(installation: &str) -> Vec<u8> {
    sha256(&[b"granary audit", installation.as_bytes()].concat())
}

/// The chain up to `row`, from that up to the row before.
pub(super) fn link(previous: &[u8], row: &AuditRow) -> Vec<u8> {
    sha256(&[previous, &sha256(&encoded(row))].concat())
}

/// The row's fields but its chain, each behind its length in 4 bytes, most significant first; numbers as 8 such bytes,
/// and `ff ff ff ff` for what is not there.
fn encoded(row: &AuditRow) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let number = |number: i64| Some(number.to_be_bytes().to_vec());
    let text = |text: &str| Some(text.as_bytes().to_vec());
    for field in [
        number(row.seq),
        number(row.at),
        text(&row.request_id),
        text(&row.action),
        Some(vec![u8::from(row.allowed)]),
        text(&row.reason),
        row.actor_id.and_then(number),
        text(&row.actor),
        row.credential_id.and_then(number),
        row.address.as_deref().and_then(text),
        text(&row.target),
        row.detail.as_deref().and_then(text),
    ] {
        let length = field.as_ref().map_or(u32::MAX, |field| {
            // No field is as long as 4 GiB; what were would be cut alike whenever it is hashed.
            u32::try_from(field.len()).unwrap_or(u32::MAX - 1)
        });
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend(field.unwrap_or_default());
    }
    bytes
}

/// What the signature of a checkpoint is of.
pub(super) fn statement(installation: &str, checkpoint: &AuditCheckpoint) -> String {
    let AuditCheckpoint {
        number,
        first_seq,
        last_seq,
        first_at,
        last_at,
        chain,
        kid,
        signed_at,
        signature: _,
        removed_at: _,
    } = checkpoint;
    let chain = hex(chain);
    format!(
        "granary audit checkpoint v1\ninstallation {installation}\nnumber {number}\nrows {first_seq} {last_seq}\n\
         times {first_at} {last_at}\nchain {chain}\nkid {kid}\nsigned {signed_at}\n"
    )
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Digest::sha256(bytes).hash().to_vec()
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`hex`].
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> AuditRow {
        AuditRow {
            seq: 1,
            at: 1_793_491_200_000_000,
            request_id: "r".to_owned(),
            action: "login".to_owned(),
            allowed: true,
            reason: "password".to_owned(),
            actor_id: Some(7),
            actor: "bob".to_owned(),
            credential_id: None,
            address: Some("127.0.0.1".to_owned()),
            target: "user bob".to_owned(),
            detail: None,
            chain: Vec::new(),
        }
    }

    /// Computed by another implementation, Python's hashlib and struct.
    #[test]
    fn the_chain_is_what_others_compute() {
        let genesis = genesis("0123");
        assert_eq!(hex(&genesis), GENESIS);
        assert_eq!(hex(&link(&genesis, &row())), FIRST);
    }

    const GENESIS: &str = "4d6e9b68e2234bd6f9639bf2732312a95eb4a71f74cfb2d9bbc7a526cd9d5bf0";
    const FIRST: &str = "e8943ab0a8ff95261a620a93e025c25adbc072900ece776bbe7e9bf9f5003bfb";

    #[test]
    fn no_two_rows_are_hashed_alike() {
        let changes: [fn(&mut AuditRow); 14] = [
            |_| (),
            |row| row.seq = 2,
            |row| row.at += 1,
            |row| row.request_id.push('x'),
            |row| row.action.push('x'),
            |row| row.allowed = false,
            |row| row.reason.push('x'),
            |row| row.actor_id = None,
            |row| row.actor.push('x'),
            |row| row.credential_id = Some(0),
            |row| row.address = None,
            |row| row.target.push('x'),
            |row| row.detail = Some(String::new()),
            |row| {
                // The same letters, in other fields.
                row.request_id.clear();
                row.action.insert(0, 'r');
            },
        ];
        let mut seen = std::collections::HashSet::new();
        for (number, change) in changes.into_iter().enumerate() {
            let mut row = row();
            change(&mut row);
            assert!(seen.insert(link(b"", &row)), "{number}");
        }
    }

    #[test]
    fn hexadecimal_comes_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for bad in ["0", "0g", "+1", "ää"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
