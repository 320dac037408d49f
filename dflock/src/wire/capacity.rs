//! Locks and semaphores, as the commands tell them apart.

use super::Limit;

/// Which family of commands: the two have separate names on servers from v1.14 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `l e w r n`
    Lock,
    /// `sl se sw sr sn`
    Semaphore,
}

/// How many may hold a key at once, as the command says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// A lock: one.
    Lock,
    /// A semaphore: up to its limit.
    Semaphore(Limit),
}

impl Capacity {
    /// Whose commands to use.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Lock => Kind::Lock,
            Self::Semaphore(_) => Kind::Semaphore,
        }
    }

    /// How many may hold at once.
    pub(crate) fn limit(self) -> Limit {
        match self {
            Self::Lock => Limit::ONE,
            Self::Semaphore(limit) => limit,
        }
    }
}
