//! The keys that all clients share.

use std::time::Duration;

/// A key, its limit, and what its holders want.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) limit: u32,
    /// In seconds.
    pub(crate) lease: u64,
    /// In milliseconds, how long a slot is held at most when it is held for short, and when for long.
    pub(crate) holds: [u64; 2],
}

/// The shortest lease there is; more than one slot; and one that the server's read timeout ends long before its lease does.
pub(crate) const KEYS: [Key; 3] = [
    Key {
        name: "narrow",
        limit: 1,
        lease: 1,
        holds: [200, 3000],
    },
    Key {
        name: "wide",
        limit: 3,
        lease: 2,
        holds: [2000, 5000],
    },
    Key {
        name: "long",
        limit: 6,
        lease: 60,
        holds: [5000, 9000],
    },
];

impl Key {
    /// How long a server that hears nothing more keeps a slot at least.
    pub(crate) fn term(&self, read_timeout: Duration) -> Duration {
        Duration::from_secs(self.lease).min(read_timeout)
    }
}
