//! One folder, several processes.
//!
//! Within a process [`leases`](super::leases) keeps the writers of a file apart. Between processes nothing does: one that
//! was overtaken may be asleep in the middle of a write, and wake up. So no process ever writes to a file that another
//! one may still be writing to, and what tells is the row of the upload session, which has one writer at a time:
//!
//! ```text
//!   (nothing) ──append──> taken ──sync, and saved by the session──> (nothing)
//!                           │
//!                           │ whoever gets the session now, finds its writer not ended:
//!                           v
//!        under a fresh key: from <former> ──bytes copied, synced──> taken <former> ──former removed──> taken
//! ```
//!
//! Each of these notes is durable before what it announces is done. A file is written to by those only that found
//! "(nothing)" and made it "taken" under their own epoch; what an overtaken writer still writes goes to a file that
//! nothing names any more. Bytes before a saved offset are never written again, so they can be copied meanwhile.

use std::sync::Arc;

use crate::{Checkpoint, Ledger, ObjectKey, StoreError};

/// What the row of a session says of its file, besides its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Notes {
    /// Everything up to the offset is in the file, and nobody writes to it.
    #[default]
    Settled,
    /// Somebody may be writing to the file. `former` is one it was copied from, if that may still be there.
    Taken { former: Option<ObjectKey> },
    /// The bytes are in `origin`, and the file is being made of them. `rest` is to be removed before that.
    From {
        origin: ObjectKey,
        rest: Option<ObjectKey>,
    },
}

impl Notes {
    /// Reads what [`write`](Self::write) wrote; `None` if it is nothing of that kind.
    pub(super) fn read(state: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(state).ok()?;
        let mut words = text.split_ascii_whitespace();
        let first = words.next();
        let keys: Vec<ObjectKey> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let mut keys = keys.into_iter();
        let (one, two, more) = (keys.next(), keys.next(), keys.next());
        match (first, one, two, more) {
            (None, ..) => Some(Self::Settled),
            (Some("taken"), former, None, None) => Some(Self::Taken { former }),
            (Some("from"), Some(origin), rest, None) => Some(Self::From { origin, rest }),
            _ => None,
        }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let (word, keys) = match self {
            Self::Settled => return Vec::new(),
            Self::Taken { former } => ("taken", [former.as_ref(), None]),
            Self::From { origin, rest } => ("from", [Some(origin), rest.as_ref()]),
        };
        let mut text = word.to_owned();
        for key in keys.into_iter().flatten() {
            text.push(' ');
            text.push_str(key.as_str());
        }
        text.into_bytes()
    }

    /// With which notes a fresh file takes the place of `key`; `None` if `key` can be gone on with.
    pub(super) fn successor(self, key: &ObjectKey) -> Option<Self> {
        match self {
            Self::Settled => None,
            Self::Taken { former } => Some(Self::From {
                origin: key.clone(),
                rest: former,
            }),
            // The copy is not whole, and its maker may still be at it.
            Self::From { origin, .. } => Some(Self::From {
                origin,
                rest: Some(key.clone()),
            }),
        }
    }

    /// The files that these notes name.
    pub(super) fn keys(self) -> impl Iterator<Item = ObjectKey> {
        let (one, two) = match self {
            Self::Settled => (None, None),
            Self::Taken { former } => (former, None),
            Self::From { origin, rest } => (Some(origin), rest),
        };
        one.into_iter().chain(two)
    }

    /// `checkpoint` with these notes.
    pub(super) fn on(&self, checkpoint: &Checkpoint) -> Checkpoint {
        Checkpoint {
            state: self.write(),
            ..checkpoint.clone()
        }
    }
}

/// The word of a writer, in the row of its session, that it writes to the file.
pub(super) struct Mark {
    ledger: Arc<dyn Ledger>,
    /// Whether the row says so now, or names no file that another process could go on with.
    standing: bool,
}

impl Mark {
    /// A mark that stands already.
    pub(super) fn standing(ledger: Arc<dyn Ledger>) -> Self {
        Self {
            ledger,
            standing: true,
        }
    }

    /// Whether the row has to be told before the next byte is written.
    pub(super) fn is_due(&self) -> bool {
        !self.standing
    }

    /// Tells the row that bytes behind `checkpoint` are about to be written.
    pub(super) async fn set(&mut self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let notes = Notes::Taken { former: None };
        self.ledger.save(&notes.on(checkpoint)).await?;
        self.standing = true;
        Ok(())
    }

    /// Notes that a checkpoint was given out which, once it is saved, says that nobody writes.
    pub(super) fn lift(&mut self) {
        self.standing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_read_back_and_nothing_else_does() {
        let (one, two) = (ObjectKey::unique(), ObjectKey::unique());
        for notes in [
            Notes::Settled,
            Notes::Taken { former: None },
            Notes::Taken {
                former: Some(one.clone()),
            },
            Notes::From {
                origin: one.clone(),
                rest: None,
            },
            Notes::From {
                origin: one.clone(),
                rest: Some(two.clone()),
            },
        ] {
            assert_eq!(Notes::read(&notes.write()), Some(notes));
        }
        let many = format!("from {one} {two} {one}");
        for bad in ["from", "taken ../secret", "given", "\u{e9}", &many] {
            assert_eq!(Notes::read(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Notes::read(b"\xff"), None);
    }

    #[test]
    fn no_chain_of_take_overs_makes_notes_grow_or_forgets_a_file() {
        let mut key = ObjectKey::unique();
        let origin = key.clone();
        let mut notes = Notes::Taken { former: None };
        for _ in 0..5 {
            notes = notes.successor(&key).unwrap();
            let named: Vec<ObjectKey> = notes.clone().keys().collect();
            assert!(named.contains(&origin) && named.contains(&key), "{named:?}");
            assert!(notes.write().len() < 100);
            key = ObjectKey::unique();
        }
    }
}
