//! Locks and semaphores in the commands.

use super::Limit;

/// The kind of a key: locks and semaphores have separate commands.
///
/// On servers from v1.14 on, a lock and a semaphore of the same name are different keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `l e w r n`
    Lock,
    /// `sl se sw sr sn`
    Semaphore,
}

/// The number of clients that may hold a key at the same time, in the form of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// A lock, with one holder.
    Lock,
    /// A semaphore, with up to its limit of holders.
    Semaphore(Limit),
}

impl Capacity {
    /// Returns the kind of the commands.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Lock => Kind::Lock,
            Self::Semaphore(_) => Kind::Semaphore,
        }
    }

    /// Returns the number of clients that may hold the key at the same time.
    pub(crate) fn limit(self) -> Limit {
        match self {
            Self::Lock => Limit::ONE,
            Self::Semaphore(limit) => limit,
        }
    }
}
