//! Generator of tokens.

use std::time::{Duration, SystemTime};

use rand::rngs::{StdRng, SysError, SysRng};
use rand::{Rng, SeedableRng};

use crate::wire::Token;

/// Fences reserved for each millisecond. A server that makes fewer grants than this per millisecond
/// does not reuse a fence after a restart.
const FENCES_PER_MILLISECOND: u64 = 1 << 20;

/// Generates tokens: a fence that only grows, and a random half that cannot be guessed.
#[derive(Debug)]
pub(crate) struct TokenGenerator {
    /// Fence of the last token.
    fence: u64,
    random: StdRng,
}

impl TokenGenerator {
    /// Returns a generator whose fences start at the time of day, so that they grow across
    /// restarts.
    pub(crate) fn new() -> Result<Self, SysError> {
        let today = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let milliseconds = u64::try_from(today.as_millis()).unwrap_or(u64::MAX);
        let fence = milliseconds.saturating_mul(FENCES_PER_MILLISECOND);
        Ok(Self {
            fence,
            random: StdRng::try_from_rng(&mut SysRng)?,
        })
    }

    /// Returns a generator that yields the same tokens for the same seed.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            fence: FENCES_PER_MILLISECOND,
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn next_token(&mut self) -> Token {
        self.fence += 1;
        Token::new(self.fence, self.random.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_tokens() {
        let three = |mut tokens: TokenGenerator| [(); 3].map(|()| tokens.next_token());
        assert_eq!(
            three(TokenGenerator::seeded(7)),
            three(TokenGenerator::seeded(7))
        );
        assert_ne!(
            three(TokenGenerator::seeded(7)),
            three(TokenGenerator::seeded(8))
        );
        let fences = three(TokenGenerator::seeded(7)).map(|token| token.fence());
        assert_eq!(fences, [(1 << 20) + 1, (1 << 20) + 2, (1 << 20) + 3]);
    }

    #[test]
    fn fences_grow_across_restarts() {
        let mut before = TokenGenerator::new().unwrap();
        let last = (0..1000)
            .map(|_| before.next_token().fence())
            .last()
            .unwrap();
        let clock = SystemTime::now();
        while clock.elapsed().unwrap_or_default() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        assert!(TokenGenerator::new().unwrap().next_token().fence() > last);
    }
}
