//! Histories made by hand: a checker that accepts everything would be worth nothing.

use super::{Action::*, End::*, Expected::*, *};
use crate::dice::Dice;

fn acknowledged(client: usize, action: Action, invoked: Time, answered: Time) -> Operation {
    Operation {
        client,
        action,
        invoked,
        end: Acknowledged(answered),
    }
}

fn doubtful(client: usize, action: Action, invoked: Time, failed: Time) -> Operation {
    Operation {
        client,
        action,
        invoked,
        end: Doubtful(failed),
    }
}

fn abandoned(client: usize, action: Action, invoked: Time) -> Operation {
    Operation {
        client,
        action,
        invoked,
        end: Abandoned,
    }
}

#[track_caller]
fn good(operations: &[Operation]) {
    if let Err(violation) = check(operations) {
        panic!("refused: {violation:?}");
    }
}

#[track_caller]
fn bad(operations: &[Operation]) {
    match check(operations) {
        Err(Violation::Impossible { .. }) => {}
        other => panic!("accepted: {other:?}"),
    }
}

#[test]
fn one_after_the_other() {
    good(&[]);
    good(&[
        acknowledged(0, Read(None), 0, 1),
        acknowledged(0, Write(1), 2, 3),
        acknowledged(1, Read(Some(1)), 4, 5),
        acknowledged(1, Swap(At(1), 2), 6, 7),
        acknowledged(0, Read(Some(2)), 8, 9),
        acknowledged(0, Delete(Present), 10, 11),
        acknowledged(0, Read(None), 12, 13),
        acknowledged(0, Swap(Absent, 3), 14, 15),
        acknowledged(0, Forget(2), 16, 17),
        acknowledged(0, Read(Some(3)), 18, 19),
        acknowledged(0, Forget(3), 20, 21),
        acknowledged(0, Read(None), 22, 23),
    ]);
}

#[test]
fn operations_that_overlap_come_in_any_order() {
    let write = [
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Write(2), 10, 20),
    ];
    // A read during the write may see it or not, but two reads in a row see it in order.
    let reads = |first, second| {
        let first = acknowledged(1, Read(Some(first)), 11, 12);
        let second = acknowledged(1, Read(Some(second)), 13, 14);
        [&write[..], &[first, second]].concat()
    };
    good(&reads(1, 1));
    good(&reads(1, 2));
    good(&reads(2, 2));
    bad(&reads(2, 1));
    // Touching at one moment is overlapping.
    good(&[
        acknowledged(0, Write(1), 0, 5),
        acknowledged(1, Read(None), 5, 6),
    ]);
}

#[test]
fn a_stale_read() {
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Write(2), 2, 3),
        acknowledged(1, Read(Some(1)), 4, 5),
    ]);
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(1, Read(None), 2, 3),
    ]);
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Delete(Present), 2, 3),
        acknowledged(1, Read(Some(1)), 4, 5),
    ]);
    bad(&[acknowledged(1, Read(Some(9)), 4, 5)]);
}

#[test]
fn a_lost_update() {
    // Both swaps found what only one of them can have found.
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(1, Swap(At(1), 2), 2, 6),
        acknowledged(2, Swap(At(1), 3), 3, 7),
    ]);
    bad(&[
        acknowledged(1, Swap(Absent, 2), 2, 6),
        acknowledged(2, Swap(Absent, 3), 3, 7),
    ]);
    // One told the other where the tag stands.
    good(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(1, Swap(At(1), 2), 2, 6),
        acknowledged(2, Read(Some(2)), 3, 7),
    ]);
    // A delete that found the tag was the only one.
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(1, Delete(Present), 2, 6),
        acknowledged(2, Delete(Present), 2, 6),
    ]);
}

#[test]
fn a_value_comes_back_that_was_overwritten() {
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Write(2), 2, 3),
        acknowledged(1, Read(Some(2)), 4, 5),
        acknowledged(1, Read(Some(1)), 6, 7),
    ]);
    // Unless somebody wrote it again.
    good(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Write(2), 2, 3),
        acknowledged(1, Read(Some(2)), 4, 5),
        acknowledged(2, Write(1), 5, 9),
        acknowledged(1, Read(Some(1)), 6, 7),
    ]);
    bad(&[
        acknowledged(0, Write(1), 0, 1),
        acknowledged(0, Forget(1), 2, 3),
        acknowledged(1, Read(Some(1)), 6, 7),
    ]);
}

#[test]
fn a_doubtful_write_may_happen_late_or_never() {
    let history = |seen| {
        [
            acknowledged(0, Write(1), 0, 1),
            doubtful(1, Write(2), 2, 3),
            acknowledged(0, Read(Some(1)), 10, 11),
            acknowledged(0, Read(Some(seen)), 12, 13),
            acknowledged(0, Read(Some(seen)), 14, 15),
        ]
    };
    good(&history(1));
    good(&history(2));
    bad(&history(3));
}

#[test]
fn a_doubtful_write_happens_once() {
    let history = |last| {
        [
            acknowledged(0, Write(1), 0, 1),
            abandoned(1, Write(2), 2),
            acknowledged(0, Read(Some(2)), 4, 5),
            acknowledged(0, Write(3), 6, 7),
            acknowledged(0, Read(Some(last)), 8, 9),
        ]
    };
    good(&history(3));
    bad(&history(2));
    bad(&[
        abandoned(1, Delete(Present), 0),
        acknowledged(0, Write(1), 2, 3),
        acknowledged(0, Read(None), 4, 5),
        acknowledged(0, Write(2), 6, 7),
        acknowledged(0, Read(None), 8, 9),
    ]);
}

#[test]
fn a_write_that_failed_never_happens_after_a_later_acknowledged_one() {
    let history = |first: Operation| {
        [
            first,
            acknowledged(0, Write(2), 4, 5),
            acknowledged(0, Read(Some(2)), 6, 7),
            acknowledged(0, Read(Some(1)), 8, 9),
        ]
    };
    bad(&history(doubtful(1, Write(1), 0, 1)));
    // The other one began before the failure was known: that is no later one.
    good(&history(doubtful(1, Write(1), 0, 4)));
    // A client that hung up knows nothing.
    good(&history(abandoned(1, Write(1), 0)));
    // In the middle of the later one it may still happen, before that takes effect.
    good(&[
        doubtful(1, Write(1), 0, 1),
        acknowledged(0, Write(2), 4, 20),
        acknowledged(2, Read(None), 5, 6),
        acknowledged(2, Read(Some(1)), 7, 8),
        acknowledged(2, Read(Some(2)), 9, 10),
    ]);
    bad(&[
        doubtful(1, Write(1), 0, 1),
        acknowledged(0, Write(2), 4, 20),
        acknowledged(2, Read(Some(2)), 5, 6),
        acknowledged(2, Read(Some(1)), 7, 8),
    ]);
}

#[test]
fn doubtful_ones_in_a_row() {
    good(&[
        doubtful(0, Write(1), 0, 1),
        doubtful(1, Swap(At(1), 2), 2, 3),
        doubtful(2, Swap(Present, 3), 4, 5),
        acknowledged(3, Read(Some(3)), 6, 7),
    ]);
    bad(&[
        doubtful(0, Write(1), 4, 5),
        doubtful(1, Swap(At(1), 2), 2, 3),
        acknowledged(3, Read(Some(2)), 6, 7),
        acknowledged(3, Read(Some(1)), 8, 9),
    ]);
    // Only the failed one can have made the tag that the delete found.
    good(&[
        doubtful(0, Write(1), 0, 1),
        acknowledged(3, Delete(Present), 6, 7),
    ]);
    bad(&[acknowledged(3, Delete(Present), 6, 7)]);
}

/// A register that really is one, used by clients at random: what they saw.
fn honest(seed: u64, rounds: usize) -> Vec<Operation> {
    let mut dice = Dice::new(seed, 0);
    let (mut at, mut value, mut now) = (None, 0, 0);
    // What has been called, and takes effect when its time comes.
    let mut calls: Vec<(Time, usize, Action, Time, End)> = Vec::new();
    let mut free = [0; 8];
    let mut operations = Vec::new();
    while operations.len() < rounds {
        now += 1 + dice.below(4) as Time;
        calls.sort_by_key(|call| std::cmp::Reverse(call.0));
        while calls.last().is_some_and(|call| call.0 <= now) {
            let (_, client, action, invoked, end) = calls.pop().unwrap();
            // A condition that does not hold tells where the tag stands.
            let seen = match (action, action.step(at)) {
                (Read(_), _) | (_, None) => Read(at),
                (_, Some(next)) => {
                    at = next;
                    action
                }
            };
            let told = matches!(end, Acknowledged(_));
            let action = if told { seen } else { action };
            operations.push(Operation {
                client,
                action,
                invoked,
                end,
            });
        }
        let client = dice.below(free.len());
        if free[client] > now {
            continue;
        }
        value += 1;
        let action = match dice.below(10) {
            0..5 => Read(None),
            5..7 => Write(value),
            7..9 => Swap(at.map_or(Absent, At), value),
            _ => Delete(Present),
        };
        let effect = now + dice.below(12) as Time;
        let answer = effect + 1 + dice.below(12) as Time;
        let fails = action != Read(None) && dice.chance(8);
        let end = match fails {
            true if dice.chance(30) => Abandoned,
            true => Doubtful(answer),
            false => Acknowledged(answer),
        };
        free[client] = answer + 1;
        if fails && dice.chance(50) {
            // It never happens.
            operations.push(Operation {
                client,
                action,
                invoked: now,
                end,
            });
        } else {
            calls.push((effect, client, action, now, end));
        }
    }
    operations
}

#[test]
fn a_real_register_is_never_accused() {
    for seed in 0..40 {
        good(&honest(seed, 300));
    }
}

#[test]
fn thousands_of_operations_are_searched_quickly() {
    let began = std::time::Instant::now();
    let mut operations = honest(7, 6000);
    let effort = check(&operations).unwrap();
    assert!(
        effort.operations > 5000 && effort.doubtful > 100,
        "{effort:?}"
    );
    // And at the end of all that, something is wrong.
    let last = operations
        .iter()
        .filter_map(Operation::answered)
        .max()
        .unwrap();
    let first = operations
        .iter()
        .find_map(|operation| operation.action.produces());
    operations.push(acknowledged(0, Write(1_000_000), last + 1, last + 2));
    operations.push(acknowledged(0, Read(first), last + 3, last + 4));
    bad(&operations);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

#[test]
fn one_wrong_answer_in_a_real_history_is_found() {
    let mut found = 0;
    for seed in 0..40 {
        let mut operations = honest(seed, 200);
        let mut dice = Dice::new(seed, 1);
        let written: Vec<Value> = operations
            .iter()
            .filter_map(|o| o.action.produces())
            .collect();
        let reads: Vec<usize> = (0..operations.len())
            .filter(|number| matches!(operations[*number].action, Read(_)))
            .collect();
        operations[*dice.pick(&reads)].action = Read(Some(*dice.pick(&written)));
        found += usize::from(check(&operations).is_err());
    }
    // Now and then the other value happens to be possible too.
    assert!(found >= 35, "{found} of 40");
}
