//! Chance from a seed.

/// A xorshift.
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice number `number` of a run.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mixed = seed
            .wrapping_add(number.wrapping_mul(0xd134_2543_de82_ef95))
            .wrapping_add(1);
        let mut dice = Self(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.number();
        }
        dice
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.number() >> 11) % end as u64).unwrap()
    }

    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these; there must be one.
    pub(crate) fn pick<'i, T>(&mut self, items: &'i [T]) -> &'i T {
        &items[self.below(items.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
