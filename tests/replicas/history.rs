//! What clients saw of tags and manifests, for the checker.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use granary_oci::Digest;

use crate::checker::{self, Action, Effort, End, Operation, Time, Value, Violation};

/// The time since the run began.
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        Time::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// Everything that was done to each tag, and to each manifest as a thing that is there or not.
#[derive(Default)]
pub(crate) struct History {
    registers: Mutex<BTreeMap<String, Vec<Operation>>>,
    values: Mutex<HashMap<Digest, Value>>,
}

impl History {
    /// The number of a digest.
    pub(crate) fn value(&self, digest: Digest) -> Value {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Value::try_from(values.len()).unwrap();
        *values.entry(digest).or_insert(next)
    }

    pub(crate) fn note(&self, register: &str, operation: Operation) {
        let mut registers = self
            .registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match registers.get_mut(register) {
            Some(operations) => operations.push(operation),
            None => drop(registers.insert(register.to_owned(), vec![operation])),
        }
    }

    /// The names of all registers.
    pub(crate) fn registers(&self) -> Vec<String> {
        let registers = self
            .registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        registers.keys().cloned().collect()
    }

    /// Checks every register; the texts say what is wrong with some of them.
    pub(crate) fn check(&self) -> (Vec<String>, Effort) {
        let registers = self
            .registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut wrong = Vec::new();
        let mut sum = Effort::default();
        for (name, operations) in registers.iter() {
            let operations = relevant(operations);
            match checker::check(&operations) {
                Ok(effort) => {
                    sum.operations += effort.operations;
                    sum.doubtful += effort.doubtful;
                    sum.most = sum.most.max(effort.most);
                }
                Err(violation) => wrong.push(self.describe(name, &violation, &operations)),
            }
        }
        (wrong, sum)
    }

    fn describe(&self, name: &str, violation: &Violation, all: &[Operation]) -> String {
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = |value: Value| {
            let mut found = values.iter().filter(|(_, other)| **other == value);
            found
                .next()
                .map_or_else(String::new, |(digest, _)| digest.to_string())
        };
        let (operation, standing, beside) = match violation {
            Violation::Impossible {
                operation,
                standing,
                beside,
            } => (operation, standing, beside),
            Violation::Undecided(operation) => {
                return format!("{name}: too many explanations at {operation}");
            }
        };
        let mut text = format!(
            "{name}: nothing explains {operation}; before it could stand at {standing:?} only"
        );
        let seen = match operation.action {
            Action::Read(seen) => seen,
            Action::Write(value) | Action::Forget(value) | Action::Swap(_, value) => Some(value),
            Action::Delete(_) => None,
        };
        if let Some(value) = seen {
            text += &format!(
                "\n  {value} is {}; all that had to do with it:",
                digest(value)
            );
            let about =
                |other: &&Operation| format!("{:?}", other.action).contains(&value.to_string());
            for other in all.iter().filter(about) {
                text += &format!("\n    {other}");
            }
        }
        text += "\n  beside it ran:";
        let recent = beside
            .iter()
            .filter(|other| !matches!(other.end, End::Abandoned | End::Doubtful(_)));
        for other in recent {
            text += &format!("\n    {other}");
        }
        let before = all
            .iter()
            .filter(|other| matches!(other.end, End::Acknowledged(at) if at < operation.invoked))
            .filter(|other| !matches!(other.action, Action::Read(_)));
        let mut before: Vec<_> = before.collect();
        before.sort_by_key(|other| std::cmp::Reverse(other.invoked));
        text += "\n  before it, the latest first:";
        for other in before.iter().take(12) {
            text += &format!("\n    {other}");
        }
        text
    }
}

/// Without the removals of manifests that never were at this tag.
fn relevant(operations: &[Operation]) -> Vec<Operation> {
    let written: HashSet<Value> = operations
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Write(value) | Action::Swap(_, value) => Some(value),
            Action::Delete(_) | Action::Forget(_) | Action::Read(_) => None,
        })
        .collect();
    let matters = |operation: &&Operation| match operation.action {
        Action::Forget(value) => written.contains(&value),
        _ => true,
    };
    operations.iter().filter(matters).copied().collect()
}
