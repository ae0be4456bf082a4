//! Chance from a seed, and the content that all clients share.

use std::sync::{Arc, LazyLock};

use super::ledger::Content;

/// A xorshift.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.next();
        }
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 11) % end as u64).unwrap()
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Clone>(&mut self, items: impl ExactSizeIterator<Item = T>) -> Option<T> {
        let mut items = items;
        match items.len() {
            0 => None,
            number => items.nth(self.below(number)),
        }
    }
}

/// Content `number`, of a length around the 64 KiB that stay inline.
fn content(number: usize) -> Content {
    const LENGTHS: [usize; 6] = [5, 900, 40_000, 65_536, 70_000, 300_000];
    let mut dice = Dice::new(number as u64);
    let length = LENGTHS[number % LENGTHS.len()] + (number / LENGTHS.len()) % 2;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(dice.next().to_le_bytes());
    }
    bytes.truncate(length);
    Arc::new(bytes)
}

/// Few enough that clients push the same.
static SHARED: LazyLock<Vec<Content>> = LazyLock::new(|| (0..48).map(content).collect());

/// Content that others may push too, or that nobody has pushed before.
pub(super) fn some_content(dice: &mut Dice) -> Content {
    if dice.chance(60) {
        Arc::clone(&SHARED[dice.below(SHARED.len())])
    } else {
        content(SHARED.len() + dice.below(1 << 40))
    }
}
