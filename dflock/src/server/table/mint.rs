//! Where tokens come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rand::rngs::{StdRng, SysError, SysRng};
use rand::{Rng, SeedableRng};

use crate::wire::Token;

/// The grants that a millisecond has room for, so that a server that restarts never falls behind its own fence.
const GRANTS_PER_MILLISECOND: u64 = 1 << 20;

/// Makes tokens: a fence that only grows, and a random half that nobody can guess.
#[derive(Debug)]
pub(crate) struct Mint {
    /// The last one; sisters share it.
    fence: Arc<AtomicU64>,
    random: StdRng,
}

impl Mint {
    /// Fences begin with the time of day, so that they grow across restarts, too.
    pub(crate) fn new() -> Result<Self, SysError> {
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let milliseconds = u64::try_from(today.as_millis()).unwrap_or(u64::MAX);
        Ok(Self::from(milliseconds.saturating_mul(GRANTS_PER_MILLISECOND), StdRng::try_from_rng(&mut SysRng)?))
    }

    /// The same tokens at each start.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::from(GRANTS_PER_MILLISECOND, StdRng::seed_from_u64(seed))
    }

    /// A mint whose fences grow with those of this one, so that every fence is used once.
    pub(super) fn sister(&mut self) -> Self {
        Self { fence: Arc::clone(&self.fence), random: StdRng::from_rng(&mut self.random) }
    }

    pub(super) fn next(&mut self) -> Token {
        // nothing is read because of it: who comes later, behind the lock of a key or after an answer, sees a later one
        let fence = self.fence.fetch_add(1, Ordering::Relaxed) + 1;
        Token::new(fence, self.random.next_u64())
    }

    fn from(fence: u64, random: StdRng) -> Self {
        Self { fence: Arc::new(AtomicU64::new(fence)), random }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_tokens() {
        let three = |mut mint: Mint| [mint.next(), mint.next(), mint.next()];
        assert_eq!(three(Mint::seeded(7)), three(Mint::seeded(7)));
        assert_ne!(three(Mint::seeded(7)), three(Mint::seeded(8)));
        assert_eq!(three(Mint::seeded(7)).map(|token| token.fence()), [(1 << 20) + 1, (1 << 20) + 2, (1 << 20) + 3]);
    }

    #[test]
    fn sisters_share_fences_and_nothing_else() {
        let mut mint = Mint::seeded(7);
        let mut sister = mint.sister();
        let tokens = [mint.next(), sister.next(), sister.next(), mint.next()];
        assert_eq!(tokens.map(|token| token.fence() - (1 << 20)), [1, 2, 3, 4]);
        let mut halves = tokens.map(|token| token.random());
        halves.sort_unstable();
        assert!(halves.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn fences_grow_across_restarts() {
        let mut before = Mint::new().unwrap();
        let last = (0..1000).map(|_| before.next().fence()).last().unwrap();
        let clock = SystemTime::now();
        while clock.elapsed().unwrap_or_default() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        assert!(Mint::new().unwrap().next().fence() > last);
    }
}
