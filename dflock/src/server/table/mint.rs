//! Where tokens come from.

use std::time::{Duration, SystemTime};

use rand::rngs::{StdRng, SysError, SysRng};
use rand::{Rng, SeedableRng};

use crate::wire::Token;

/// The grants that a millisecond has room for, so that a server that restarts never falls behind its own fence.
const GRANTS_PER_MILLISECOND: u64 = 1 << 20;

/// Makes tokens: a fence that only grows, and a random half that nobody can guess.
#[derive(Debug)]
pub(crate) struct Mint {
    fence: u64,
    random: StdRng,
}

impl Mint {
    /// Fences begin with the time of day, so that they grow across restarts, too.
    pub(crate) fn new() -> Result<Self, SysError> {
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let milliseconds = u64::try_from(today.as_millis()).unwrap_or(u64::MAX);
        Ok(Self { fence: milliseconds.saturating_mul(GRANTS_PER_MILLISECOND), random: StdRng::try_from_rng(&mut SysRng)? })
    }

    /// The same tokens at each start.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { fence: GRANTS_PER_MILLISECOND, random: StdRng::seed_from_u64(seed) }
    }

    pub(super) fn next(&mut self) -> Token {
        self.fence += 1;
        Token::new(self.fence, self.random.next_u64())
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
