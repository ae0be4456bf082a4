use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::{task::JoinSet, time::timeout};

use super::*;

const LEAST: usize = 20;

fn least() -> u64 {
    (LEAST * BLOCK) as u64
}

/// A part of so many blocks.
fn gathered(share: &Share, blocks: usize, least: u64) -> Hold {
    let mut hold = share.part();
    while hold.blocks() < blocks {
        hold.add(share.try_take(least).unwrap());
    }
    hold
}

#[tokio::test]
async fn half_filled_parts_do_not_block_each_other() {
    let budget = Budget::new(32 * BLOCK);
    let mut uploads = JoinSet::new();
    for _ in 0..40 {
        let budget = Arc::clone(&budget);
        uploads.spawn(async move {
            let share = budget.join();
            for _ in 0..5 {
                let mut hold = share.part();
                while hold.blocks() < LEAST {
                    hold.add(share.take(least()).await);
                    assert!(budget.in_use() <= 32 * BLOCK);
                    tokio::task::yield_now().await;
                }
                hold.sent();
                tokio::task::yield_now().await;
            }
        });
    }
    let all = timeout(Duration::from_secs(60), uploads.join_all()).await;
    assert!(all.is_ok(), "the uploads wait for each other");
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test]
async fn parts_on_their_way_leave_room_for_others() {
    let budget = Budget::new(80 * BLOCK);
    let greedy = budget.join();
    let mut sent = Vec::new();
    'greedy: loop {
        let mut hold = greedy.part();
        while hold.blocks() < LEAST {
            let Some(grant) = greedy.try_take(least()) else {
                break 'greedy;
            };
            hold.add(grant);
        }
        hold.sent();
        sent.push(hold);
    }
    assert!(sent.len() > 1);
    let other = budget.join();
    assert!(other.try_take(least()).is_some());
}

#[tokio::test]
async fn who_stops_waiting_holds_up_nobody() {
    let budget = Budget::new(4 * BLOCK);
    let (first, second) = (budget.join(), budget.join());
    let small = BLOCK as u64;
    let mut hold = first.part();
    for _ in 0..4 {
        hold.add(first.take(small).await);
    }
    let gone = timeout(Duration::from_millis(10), second.take(small)).await;
    assert!(gone.is_err());
    drop(hold);
    assert!(second.try_take(small).is_some());
    drop((first, second));
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test]
async fn a_newcomer_takes_nothing_that_is_promised() {
    let budget = Budget::new(32 * BLOCK);
    let old = [budget.join(), budget.join()];
    let mut held = Vec::new();
    'full: loop {
        for share in &old {
            let Some(grant) = share.try_take(least()) else {
                break 'full;
            };
            held.push(grant);
        }
    }
    assert!(
        budget.in_use() < 32 * BLOCK,
        "some is kept for the first to go on"
    );
    assert!(budget.join().try_take(least()).is_none());
    // One of the two can still be filled.
    assert!((held.len()..32).all(|_| {
        let grant = old[0].try_take(least());
        grant.map(|grant| held.push(grant)).is_some()
    }));
}

/// Of those with large parts, 43 blocks are gathered; one more, and the small part could not be filled any more.
#[test]
fn many_that_must_wait_do_not_hold_up_one_that_need_not() {
    let large = (32 * BLOCK) as u64;
    let budget = Budget::new(64 * BLOCK);
    let alike = [budget.join(), budget.join(), budget.join()];
    let (begun, small) = (budget.join(), budget.join());
    let mut held: Vec<_> = alike
        .iter()
        .map(|share| gathered(share, 14, large))
        .collect();
    held.push(gathered(&begun, 1, large));
    let part = gathered(&small, 14, least());
    let newcomers: Vec<_> = (0..100).map(|_| budget.join()).collect();
    let mut waiting: Vec<_> = alike
        .iter()
        .chain(&newcomers)
        .map(|share| Box::pin(share.take(large)))
        .collect();
    for take in &mut waiting {
        assert!(take.now_or_never().is_none());
    }
    let used = budget.in_use();
    assert!(small.take(least()).now_or_never().is_some());
    assert_eq!(budget.in_use(), used, "that block came back");
    for take in &mut waiting {
        assert!(take.now_or_never().is_none());
    }
    drop(part);
    assert!(
        waiting.iter_mut().any(|take| take.now_or_never().is_some()),
        "what came back goes to those who wait"
    );
}

#[test]
fn who_waits_is_noticed_until_served_or_gone() {
    let budget = Budget::new(4 * BLOCK);
    let (first, second) = (budget.join(), budget.join());
    let least = BLOCK as u64;
    let hold = gathered(&first, 4, least);
    assert!(!budget.has_waiters());
    let mut waiting = Box::pin(second.take(least));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(budget.has_waiters());
    drop(waiting);
    assert!(!budget.has_waiters());

    let mut waiting = Box::pin(second.take(least));
    assert!((&mut waiting).now_or_never().is_none());
    assert!(budget.has_waiters());
    drop(hold);
    assert!(!budget.has_waiters());
    assert!(waiting.now_or_never().is_some());
}
