//! Comparing rows with their chain and with what was signed. Rows and checkpoints are handed in one after another, so a log
//! of any length takes no more memory than one of a page.

use std::{collections::HashMap, fmt, str::FromStr};

use granary_catalog::{AuditCheckpoint, AuditRow};
use granary_identity::is_signed;
use serde::{Deserialize, Serialize};

use super::chain::{genesis, hex, link, statement, unhex};

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditFault {
    /// A row is not the one that was sealed: it was altered, or another was put in its place.
    Altered,
    /// Rows are not there.
    Removed,
    /// A row is there that was never sealed, or that was to be removed.
    Inserted,
    /// Rows were altered, and the chain behind them was made anew.
    Rechained,
    /// A checkpoint is not there.
    CheckpointMissing,
    /// A checkpoint was altered, or is not signed by a key of this installation.
    CheckpointForged,
    /// What was noted elsewhere is not what the log says.
    NotAsNoted,
}

/// One thing that is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// What kind of thing it is.
    pub fault: AuditFault,
    /// The first row it is about.
    pub row: Option<i64>,
    /// The checkpoint it is about.
    pub checkpoint: Option<i64>,
    /// What is wrong.
    pub problem: String,
}

/// A row's number and the chain up to it, as somebody noted them elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LastRow {
    /// The row's number.
    pub seq: i64,
    /// The chain.
    pub chain: Vec<u8>,
}

/// Why a text is no such note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no note of a row: write NUMBER:CHAIN as 'granary admin audit verify' prints it")]
pub struct LastRowError(String);

impl FromStr for LastRow {
    type Err = LastRowError;

    fn from_str(text: &str) -> Result<Self, LastRowError> {
        let parsed = || {
            let (seq, chain) = text.split_once(':')?;
            let seq = seq.parse().ok().filter(|seq| *seq >= 0)?;
            let chain = unhex(chain).filter(|chain| chain.len() == 32)?;
            Some(Self { seq, chain })
        };
        parsed().ok_or_else(|| LastRowError(text.to_owned()))
    }
}

impl fmt::Display for LastRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, hex(&self.chain))
    }
}

impl TryFrom<String> for LastRow {
    type Error = LastRowError;

    fn try_from(text: String) -> Result<Self, LastRowError> {
        text.parse()
    }
}

impl From<LastRow> for String {
    fn from(last: LastRow) -> Self {
        last.to_string()
    }
}

/// Findings that one report shows; more are only counted.
const SHOWN: usize = 100;

/// What is remembered of a checkpoint.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: i64,
    is_good: bool,
    is_removed: bool,
}

/// A walk along a log.
#[derive(Debug)]
pub struct AuditCheck {
    installation: String,
    keys: HashMap<String, [u8; 32]>,
    noted: Option<LastRow>,
    was_compared: bool,
    /// The last row that was accounted for, and the chain up to it.
    seq: i64,
    chain: Vec<u8>,
    /// Another chain that may as well be that of `seq`, because the row or the checkpoint there did not fit.
    other: Option<Vec<u8>>,
    /// The last checkpoint.
    checkpoint: Option<Seen>,
    /// The last row that a good checkpoint covers.
    covered: i64,
    rows: u64,
    checkpoints: u64,
    first_kept: i64,
    findings: Vec<AuditFinding>,
    found: u64,
}

impl AuditCheck {
    /// A walk that begins with the first row that ever was. `keys`: the public keys of checkpoints by their names.
    pub fn new(
        installation: &str,
        keys: HashMap<String, [u8; 32]>,
        noted: Option<LastRow>,
    ) -> Self {
        Self {
            installation: installation.to_owned(),
            keys,
            noted,
            was_compared: false,
            seq: 0,
            chain: genesis(installation),
            other: None,
            checkpoint: None,
            covered: 0,
            rows: 0,
            checkpoints: 0,
            first_kept: 1,
            findings: Vec::new(),
            found: 0,
        }
    }

    /// Begins behind the row `start` instead, with what others say was the chain there and the number of the checkpoint.
    #[must_use]
    pub fn behind(mut self, start: LastRow, checkpoint: i64) -> Self {
        self.first_kept = start.seq + 1;
        self.seq = start.seq;
        self.covered = start.seq;
        self.checkpoint = (checkpoint > 0).then_some(Seen {
            number: checkpoint,
            is_good: true,
            is_removed: false,
        });
        self.chain = start.chain;
        self
    }

    /// The next row.
    pub fn row(&mut self, row: &AuditRow) {
        self.rows += 1;
        if row.seq <= self.seq {
            if row.seq == self.seq {
                // Either of the two may be the one that was sealed.
                self.other = Some(row.chain.clone());
            }
            let problem = match 0 < row.seq && row.seq < self.first_kept {
                true => format!(
                    "row {} is there, although the rows up to {} were exported and removed: if a removal was cut off, repeat it",
                    row.seq,
                    self.first_kept - 1
                ),
                false => format!("row {} is there, and was not sealed as such", row.seq),
            };
            return self.find(AuditFault::Inserted, Some(row.seq), None, problem);
        }
        if row.seq > self.seq.saturating_add(1) {
            self.removed(row.seq - 1);
        } else {
            let expected = link(&self.chain, row);
            let is_other = || {
                let other = self.other.as_ref();
                other.is_some_and(|other| link(other, row) == row.chain)
            };
            if expected == row.chain || is_other() {
                self.other = None;
            } else {
                let problem = format!(
                    "row {} is not the one that was sealed: it was altered, or another was put in its place",
                    row.seq
                );
                self.find(AuditFault::Altered, Some(row.seq), None, problem);
                self.other = Some(expected);
            }
        }
        self.seq = row.seq;
        self.chain.clone_from(&row.chain);
        self.compare_with_note();
    }

    /// The next checkpoint, once all rows up to its last one were handed in.
    pub fn checkpoint(&mut self, checkpoint: &AuditCheckpoint) {
        self.checkpoints += 1;
        let number = checkpoint.number;
        let before = self.checkpoint;
        let last = before.map_or(0, |before| before.number);
        if number != last + 1 {
            let problem = format!("checkpoints {} to {} are missing", last + 1, number - 1);
            self.find(AuditFault::CheckpointMissing, None, Some(last + 1), problem);
        }
        // As long as what came before is as it should be, this one has to fit to it.
        let fits = number == last + 1 && before.is_none_or(|before| before.is_good);
        let text = statement(&self.installation, checkpoint);
        let key = self.keys.get(&checkpoint.kid);
        let is_good = key.is_some_and(|key| is_signed(key, text.as_bytes(), &checkpoint.signature));
        let is_removed = checkpoint.removed_at.is_some();
        if is_good {
            if is_removed && before.is_some_and(|before| !before.is_removed) {
                let problem = format!(
                    "checkpoint {number} says that its rows were removed, and the one before does not: it was altered"
                );
                self.find(AuditFault::CheckpointForged, None, Some(number), problem);
            }
            if fits && checkpoint.first_seq != self.covered + 1 {
                // They were gone already when it was signed.
                let (first, last) = (self.covered + 1, checkpoint.first_seq - 1);
                let problem = format!(
                    "rows {first} to {last} were removed before checkpoint {number} was signed"
                );
                self.find(AuditFault::Removed, Some(first), Some(number), problem);
            }
            self.reach(checkpoint, fits);
            self.covered = checkpoint.last_seq;
        } else {
            let problem = match key {
                None => format!(
                    "checkpoint {number} is signed by the key '{}', which is not known here",
                    checkpoint.kid
                ),
                Some(_) => format!("checkpoint {number} was altered: its signature does not fit"),
            };
            self.find(AuditFault::CheckpointForged, None, Some(number), problem);
        }
        self.checkpoint = Some(Seen {
            number,
            is_good,
            is_removed,
        });
    }

    /// Compares with what a good checkpoint says. One that does not fit to the one before may come too late.
    fn reach(&mut self, checkpoint: &AuditCheckpoint, fits: bool) {
        let end = checkpoint.last_seq;
        let is_chained =
            self.chain == checkpoint.chain || self.other.as_ref() == Some(&checkpoint.chain);
        if self.seq < end {
            match checkpoint.removed_at {
                Some(_) => self.first_kept = end + 1,
                None => self.removed(end),
            }
        } else if (self.seq == end && !is_chained) || (self.seq > end && fits) {
            let first = checkpoint.first_seq;
            let problem = format!(
                "rows {first} to {end} do not end in the chain that checkpoint {} signed: some were altered and all were chained anew",
                checkpoint.number
            );
            let number = Some(checkpoint.number);
            self.find(AuditFault::Rechained, Some(first), number, problem);
        }
        if self.seq <= end {
            self.other = (self.seq == end).then(|| self.chain.clone());
            self.seq = end;
            self.chain.clone_from(&checkpoint.chain);
            self.compare_with_note();
        }
    }

    /// Nothing follows. Says how far the log is, and what is wrong with it.
    pub fn end(mut self) -> Checked {
        if let Some(noted) = self.noted.clone()
            && noted.seq > self.seq
        {
            let problem = format!(
                "row {} was noted, and the log ends with row {}: what was behind that was removed",
                noted.seq, self.seq
            );
            self.find(AuditFault::Removed, Some(self.seq + 1), None, problem);
            self.was_compared = true;
        }
        Checked {
            rows: self.rows,
            checkpoints: self.checkpoints,
            first_kept: self.first_kept,
            unsigned: u64::try_from(self.seq - self.covered).unwrap_or(0),
            was_compared: self.noted.is_none() || self.was_compared,
            last: LastRow {
                seq: self.seq,
                chain: self.chain,
            },
            found: self.found,
            findings: self.findings,
        }
    }

    /// The rows from the next one to `last` are not there.
    fn removed(&mut self, last: i64) {
        let first = self.seq + 1;
        let problem = match first == last {
            true => format!("row {first} was removed"),
            false => format!("rows {first} to {last} were removed"),
        };
        self.find(AuditFault::Removed, Some(first), None, problem);
        self.other = None;
    }

    fn compare_with_note(&mut self) {
        let Some(noted) = &self.noted else { return };
        if noted.seq != self.seq || self.was_compared {
            return;
        }
        let is_as_noted = noted.chain == self.chain || self.other.as_ref() == Some(&noted.chain);
        self.was_compared = true;
        if !is_as_noted {
            let seq = self.seq;
            let problem = format!(
                "the chain up to row {seq} is not what was noted: rows up to it were altered"
            );
            self.find(AuditFault::NotAsNoted, Some(seq), None, problem);
        }
    }

    fn find(
        &mut self,
        fault: AuditFault,
        row: Option<i64>,
        checkpoint: Option<i64>,
        problem: String,
    ) {
        self.found += 1;
        if self.findings.len() < SHOWN {
            self.findings.push(AuditFinding {
                fault,
                row,
                checkpoint,
                problem,
            });
        }
    }
}

/// What a walk came to.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Rows that were looked at.
    pub rows: u64,
    /// Checkpoints that were looked at.
    pub checkpoints: u64,
    /// The first row that was not exported and removed.
    pub first_kept: i64,
    /// Rows behind the last checkpoint.
    pub unsigned: u64,
    /// Whether what was noted elsewhere could be compared, if anything was.
    pub was_compared: bool,
    /// The last row, to be noted elsewhere.
    pub last: LastRow,
    /// How many things are wrong.
    pub found: u64,
    /// The first of them.
    pub findings: Vec<AuditFinding>,
}
