//! Decides whether what clients saw of one tag can be explained by one order of all operations (linearizability), with
//! writes of which nobody knows whether they happened (decision 40).
//!
//! The search is the one of Wing and Gong in the form of Lowe: it goes through calls and answers in the order of time and
//! keeps all explanations of what happened so far. One of them is where the tag stands and which of the operations under
//! way have taken effect. Equal ones are kept once. An operation takes effect as late as possible: when its own answer, or
//! that of one that must come after it, is reached. If no explanation is left, there is none.
//!
//! A doubtful write is chosen only if the very next operation sees what it did; otherwise an explanation without it
//! is as good. It can be chosen once. When a write that began after the doubtful one's failure was acknowledged, it is
//! too late for the doubtful one.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// A digest, as a number.
pub(crate) type Value = u32;
/// Microseconds since the run began.
pub(crate) type Time = u64;

/// What a swap or a delete expects of the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Absent,
    Present,
    At(Value),
}

/// What was asked for, and, of reads, what came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Write(Value),
    /// A write under a condition that held.
    Swap(Expected, Value),
    /// Removes the tag, under a condition that held.
    Delete(Expected),
    /// Removes the manifest, and so the tag if it stands there.
    Forget(Value),
    /// Where the tag stands, told by a read or by a condition that failed.
    Read(Option<Value>),
}

/// How an operation ended for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Acknowledged(Time),
    /// An answer of 5xx, or a broken connection.
    Doubtful(Time),
    /// The client gave up without an answer.
    Abandoned,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    pub(crate) action: Action,
    pub(crate) invoked: Time,
    pub(crate) end: End,
}

/// Why a history is no good.
#[derive(Debug)]
pub(crate) enum Violation {
    /// No order explains it: the operation whose answer fits none, where the tag may have stood, and what ran beside it.
    Impossible {
        operation: Operation,
        standing: Vec<Option<Value>>,
        beside: Vec<Operation>,
    },
    /// There were too many explanations to follow.
    Undecided(Operation),
}

/// How hard it was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effort {
    pub(crate) operations: usize,
    pub(crate) doubtful: usize,
    /// The most explanations at once.
    pub(crate) most: usize,
}

/// More explanations than this are given up on.
const LIMIT: usize = 200_000;

/// Looks for an order that explains these operations on one tag, which does not exist at the beginning.
pub(crate) fn check(operations: &[Operation]) -> Result<Effort, Violation> {
    Search::new(operations).run()
}

impl Operation {
    fn answered(&self) -> Option<Time> {
        match self.end {
            End::Acknowledged(at) => Some(at),
            End::Doubtful(_) | End::Abandoned => None,
        }
    }

    fn is_write(&self) -> bool {
        !matches!(self.action, Action::Read(_) | Action::Forget(_))
    }
}

impl Action {
    /// Where the tag stands afterwards; `None` if this cannot happen where it stands now.
    fn step(self, at: Option<Value>) -> Option<Option<Value>> {
        let holds = |expected| match expected {
            Expected::Absent => at.is_none(),
            Expected::Present => at.is_some(),
            Expected::At(value) => at == Some(value),
        };
        match self {
            Self::Write(value) => Some(Some(value)),
            Self::Swap(expected, value) => holds(expected).then_some(Some(value)),
            Self::Delete(expected) => holds(expected).then_some(None),
            Self::Forget(value) => Some(at.filter(|at| *at != value)),
            Self::Read(seen) => (seen == at).then_some(at),
        }
    }

    fn produces(self) -> Option<Value> {
        match self {
            Self::Write(value) | Self::Swap(_, value) => Some(value),
            Self::Delete(_) | Self::Forget(_) | Self::Read(_) => None,
        }
    }

    /// The value that the tag must have had for this; `None` in it if any would do.
    fn sees(self) -> Option<Option<Value>> {
        match self {
            Self::Swap(expected, _) | Self::Delete(expected) => match expected {
                Expected::Absent => None,
                Expected::Present => Some(None),
                Expected::At(value) => Some(Some(value)),
            },
            Self::Forget(value) => Some(Some(value)),
            Self::Read(seen) => seen.map(Some),
            Self::Write(_) => None,
        }
    }
}

/// One explanation of what happened so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Explanation {
    at: Option<Value>,
    /// Operations that have taken effect and have no answer yet, in order of number.
    done: Vec<usize>,
    /// Doubtful operations that have taken effect and still could.
    used: Vec<usize>,
    /// The last one that took effect was doubtful.
    fresh: bool,
}

struct Search<'o> {
    operations: &'o [Operation],
    /// Called, not answered, and the answer will come.
    pending: Vec<usize>,
    /// Doubtful ones that were called and may still take effect.
    doubts: Vec<usize>,
    /// The latest call of a write whose answer has come.
    latest: Time,
    explanations: HashSet<Explanation>,
    /// Until when it can be seen that the tag stands at a value, or, under `None`, at any.
    seen: HashMap<Option<Value>, Time>,
    effort: Effort,
}

impl<'o> Search<'o> {
    fn new(operations: &'o [Operation]) -> Self {
        let start = Explanation {
            at: None,
            done: Vec::new(),
            used: Vec::new(),
            fresh: false,
        };
        let mut seen = HashMap::new();
        for operation in operations {
            if let Some(value) = operation.action.sees() {
                let last = operation.answered().unwrap_or(Time::MAX);
                let known = seen.entry(value).or_insert(last);
                *known = last.max(*known);
            }
        }
        Self {
            operations,
            pending: Vec::new(),
            doubts: Vec::new(),
            latest: 0,
            explanations: HashSet::from([start]),
            seen,
            effort: Effort::default(),
        }
    }

    fn run(mut self) -> Result<Effort, Violation> {
        // Of a call and an answer at the same moment the call comes first, so that they overlap.
        let mut events: Vec<(Time, bool, usize)> = Vec::new();
        for (number, operation) in self.operations.iter().enumerate() {
            events.push((operation.invoked, false, number));
            if let Some(at) = operation.answered() {
                events.push((at, true, number));
            }
        }
        events.sort_unstable();
        for (_, answer, number) in events {
            if answer {
                self.answer(number)?;
            } else if self.operations[number].answered().is_some() {
                self.effort.operations += 1;
                self.pending.push(number);
            } else {
                self.effort.doubtful += 1;
                if self.may_be_seen(number, self.operations[number].invoked) {
                    self.doubts.push(number);
                }
            }
        }
        Ok(self.effort)
    }

    /// Whether an operation that is not over at `now` could tell that this doubtful one happened.
    fn may_be_seen(&self, number: usize, now: Time) -> bool {
        let last = |value| self.seen.get(&Some(value)).max(self.seen.get(&None));
        let seen_after = |value| last(value).is_some_and(|last| *last >= now);
        let action = self.operations[number].action;
        action.produces().is_none_or(seen_after)
    }

    /// Those of the doubtful operations that are worth a try: of several of which nobody could say which one it was, the one
    /// that will be too late first, and only if it matters whether there is a tag at all.
    fn worth_a_try(&self, explanation: &Explanation) -> Vec<usize> {
        let (mut some, mut any) = (Vec::new(), None);
        for &number in &self.doubts {
            let operation = &self.operations[number];
            let is_any = match operation.action {
                Action::Write(value) if !self.seen.contains_key(&Some(value)) => {
                    if explanation.at.is_some() {
                        continue;
                    }
                    true
                }
                Action::Delete(Expected::Present) => {
                    if explanation.at.is_none() || !self.absence_matters() {
                        continue;
                    }
                    true
                }
                _ => false,
            };
            if explanation.used.contains(&number) || !self.in_time(number, explanation) {
                continue;
            }
            if is_any {
                let last_call = match operation.end {
                    End::Doubtful(failed) => failed,
                    End::Acknowledged(_) | End::Abandoned => Time::MAX,
                };
                any = any.into_iter().chain([(last_call, number)]).min();
            } else {
                some.push(number);
            }
        }
        some.extend(any.map(|(_, number)| number));
        some
    }

    /// Whether one of the operations under way needs that there is no tag.
    fn absence_matters(&self) -> bool {
        let needs_absence = |number: &usize| {
            let action = self.operations[*number].action;
            matches!(
                action,
                Action::Read(None) | Action::Swap(Expected::Absent, _)
            )
        };
        self.pending.iter().chain(&self.doubts).any(needs_absence)
    }

    /// Keeps the explanations in which this operation has taken effect by now.
    fn answer(&mut self, number: usize) -> Result<(), Violation> {
        let before = std::mem::take(&mut self.explanations);
        let begun = before.iter().cloned();
        let mut seen: HashSet<_> = begun.map(|begun| self.with_reads(begun)).collect();
        let mut open: Vec<Explanation> = seen.iter().cloned().collect();
        while let Some(explanation) = open.pop() {
            if explanation.done.contains(&number) {
                self.explanations.insert(explanation);
                continue;
            }
            for next in self.steps(&explanation) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
            if seen.len() > LIMIT {
                return Err(Violation::Undecided(self.operations[number]));
            }
        }
        self.effort.most = self.effort.most.max(self.explanations.len());
        if self.explanations.is_empty() {
            return Err(self.impossible(number, &before));
        }
        self.settle(number);
        Ok(())
    }

    /// What may take effect next.
    fn steps(&self, explanation: &Explanation) -> Vec<Explanation> {
        let mut steps = Vec::new();
        let may_follow = |action| !(explanation.fresh && matches!(action, Action::Write(_)));
        for &number in &self.pending {
            let action = self.operations[number].action;
            if explanation.done.contains(&number) || !may_follow(action) {
                continue;
            }
            if let Some(at) = action.step(explanation.at) {
                let mut next = explanation.clone();
                next.at = at;
                next.fresh = false;
                insert(&mut next.done, number);
                steps.push(self.with_reads(next));
            }
        }
        for number in self.worth_a_try(explanation) {
            let action = self.operations[number].action;
            if may_follow(action)
                && let Some(at) = action.step(explanation.at)
                && at != explanation.at
                // To write and to remove again is to do nothing.
                && (at.is_some() || !explanation.fresh)
            {
                let mut next = explanation.clone();
                next.at = at;
                next.fresh = true;
                insert(&mut next.used, number);
                steps.push(self.with_reads(next));
            }
        }
        steps
    }

    /// A read that fits changes nothing, so that it is never better to wait with it.
    fn with_reads(&self, mut explanation: Explanation) -> Explanation {
        for &number in &self.pending {
            if self.operations[number].action == Action::Read(explanation.at)
                && !explanation.done.contains(&number)
            {
                insert(&mut explanation.done, number);
                explanation.fresh = false;
            }
        }
        explanation
    }

    /// Whether no later write was acknowledged, or is to be and has taken effect.
    fn in_time(&self, doubt: usize, explanation: &Explanation) -> bool {
        let End::Doubtful(failed) = self.operations[doubt].end else {
            return true;
        };
        let began_before = |other: &usize| {
            let other = &self.operations[*other];
            !other.is_write() || other.invoked <= failed
        };
        self.latest <= failed && explanation.done.iter().all(began_before)
    }

    /// The operation has its answer: it is the same for all explanations from now on.
    fn settle(&mut self, number: usize) {
        let operation = &self.operations[number];
        self.pending.retain(|other| *other != number);
        if operation.is_write() {
            self.latest = self.latest.max(operation.invoked);
        }
        let now = operation.answered().unwrap_or_default();
        let mut doubts = std::mem::take(&mut self.doubts);
        doubts.retain(|doubt| self.may_be_seen(*doubt, now));
        self.doubts = doubts;
        let (operations, latest) = (self.operations, self.latest);
        let alive = |doubt: &usize| match operations[*doubt].end {
            End::Doubtful(failed) => latest <= failed,
            End::Acknowledged(_) | End::Abandoned => true,
        };
        self.doubts.retain(alive);
        let mut explanations: Vec<_> = std::mem::take(&mut self.explanations)
            .into_iter()
            .map(|mut explanation| {
                explanation.done.retain(|other| *other != number);
                explanation.used.retain(alive);
                explanation.fresh = false;
                explanation
            })
            .collect();
        explanations.sort_by_key(|explanation| explanation.used.len());
        // One that used fewer doubtful operations, and is equal otherwise, can go on in every way that the other can.
        let mut least: HashMap<_, Vec<Vec<usize>>> = HashMap::new();
        for explanation in explanations {
            let known = least
                .entry((explanation.at, explanation.done.clone()))
                .or_default();
            let is_within = |fewer: &Vec<usize>| {
                fewer
                    .iter()
                    .all(|doubt| explanation.used.binary_search(doubt).is_ok())
            };
            if !known.iter().any(is_within) {
                known.push(explanation.used.clone());
                self.explanations.insert(explanation);
            }
        }
    }

    fn impossible(&self, number: usize, before: &HashSet<Explanation>) -> Violation {
        let operation = self.operations[number];
        let mut standing: Vec<_> = before.iter().map(|explanation| explanation.at).collect();
        standing.sort_unstable();
        standing.dedup();
        let end = operation.answered().unwrap_or(operation.invoked);
        let mut beside: Vec<_> = self
            .operations
            .iter()
            .filter(|other| {
                let over = other.answered().unwrap_or(Time::MAX);
                other.invoked <= end && over >= operation.invoked
            })
            .copied()
            .collect();
        beside.sort_by_key(|other| other.invoked);
        Violation::Impossible {
            operation,
            standing,
            beside,
        }
    }
}

fn insert(sorted: &mut Vec<usize>, number: usize) {
    let place = sorted.partition_point(|other| *other < number);
    sorted.insert(place, number);
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            action,
            invoked,
            end,
        } = self;
        write!(f, "client {client} from {invoked}: {action:?} {end:?}")
    }
}
