//! The faults that are to come.

use std::time::Duration;

use dflock_tests::fleet::clock::now;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::fault::Kind;

/// Shorter than any lease, and longer than most: a kind takes turns, so that each is long often enough to end a hold.
const LENGTHS: [std::ops::Range<u64>; 2] = [20..600, 1200..4500];

/// Faults of some kinds: all of them come, in an order that the seed decides.
pub(crate) struct Deck {
    dice: StdRng,
    /// Each with the number of its next length.
    kinds: Vec<(Kind, usize)>,
    /// Those of `kinds` that are to come.
    cards: Vec<usize>,
}

/// A fault that is to come.
pub(crate) struct Card {
    /// How long it keeps us waiting.
    pub(crate) wait: Duration,
    pub(crate) kind: Kind,
    /// How long it takes, if it is not over at once.
    pub(crate) length: Duration,
}

impl Deck {
    /// Faults of `kinds`, of which there is one at least.
    pub(crate) fn new(seed: u64, kinds: impl Iterator<Item = Kind>) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let kinds = kinds
            .map(|kind| (kind, dice.random_range(0..LENGTHS.len())))
            .collect();
        Self {
            dice,
            kinds,
            cards: Vec::new(),
        }
    }

    /// The next fault, unless the time is over at `end`; it will be over then.
    pub(crate) fn draw(&mut self, end: Duration) -> Option<Card> {
        if self.cards.is_empty() {
            self.cards = (0..self.kinds.len()).collect();
            self.cards.shuffle(&mut self.dice);
        }
        let wait = Duration::from_millis(self.dice.random_range(0..600));
        let left = end
            .saturating_sub(now())
            .checked_sub(wait)
            .filter(|left| !left.is_zero())?;
        let (kind, turn) = &mut self.kinds[self.cards.pop()?];
        let length = Duration::from_millis(self.dice.random_range(LENGTHS[*turn].clone()));
        // one that the end cuts short has its turn again
        if length <= left {
            *turn = (*turn + 1) % LENGTHS.len();
        }
        Some(Card {
            wait,
            kind: *kind,
            length: length.min(left),
        })
    }
}
