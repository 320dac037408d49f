//! The reaction of a semaphore to a key that is in use with another limit.

/// Reaction of a semaphore to a key that is in use with another limit.
///
/// All programs that use a key must give the same limit. While a new version with another limit is
/// rolled out, both versions run side by side, and the server refuses one of them until the key has
/// been idle for about a minute. Set with
/// [`on_limit_mismatch`](crate::SemaphoreBuilder::on_limit_mismatch), or for all semaphores of a
/// client with [`ClientBuilder::on_limit_mismatch`](crate::ClientBuilder::on_limit_mismatch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitMismatch {
    /// The call fails with [`Error::LimitMismatch`](crate::Error::LimitMismatch). This is the
    /// default.
    #[default]
    Fail,

    /// The call is repeated until its wait is over, and then fails with
    /// [`Error::LimitMismatch`](crate::Error::LimitMismatch).
    ///
    /// The pauses between the tries are random, and at most 5 s long. With a wait of zero there is
    /// one try.
    WaitOut,

    /// The call uses the limit of the server in place of the given one.
    ///
    /// The client remembers the limit of the key for 60 s, for all of its semaphores. After that a
    /// semaphore tries its own limit again. [`limit`](crate::Held::limit) of the hold returns the
    /// limit that was used, and each change of it emits a `tracing` warning.
    ///
    /// The server reports the limit of a key with holders or waiters only, and the client reads it
    /// only with the feature `stats`. If the limit is not known, the call is repeated as with
    /// [`WaitOut`](Self::WaitOut), with the last known limit and with its own in turn.
    Adopt,
}

impl LimitMismatch {
    /// Returns the value of the word that the environment has for it.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "fail" => Some(Self::Fail),
            "wait-out" => Some(Self::WaitOut),
            "adopt" => Some(Self::Adopt),
            _ => None,
        }
    }
}
