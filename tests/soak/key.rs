//! Keys that all clients share.

use std::time::Duration;

/// A key, its limit, and the leases and hold times of its holders.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) limit: u32,
    /// In seconds.
    pub(crate) lease: u64,
    /// Upper bounds of a short and of a long hold, in milliseconds.
    pub(crate) holds: [u64; 2],
}

/// The shortest lease there is; a limit above 1; and a lease much longer than the read timeout of
/// the server.
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

/// The same keys on etcd. A lease is at least ten times the election timeout of a member, and a long
/// hold is longer than the lease.
pub(crate) const ETCD_KEYS: [Key; 3] = [
    Key {
        lease: 10,
        holds: [200, 20_000],
        ..KEYS[0]
    },
    Key {
        lease: 12,
        holds: [1000, 25_000],
        ..KEYS[1]
    },
    Key {
        lease: 15,
        holds: [2000, 30_000],
        ..KEYS[2]
    },
];

impl Key {
    /// Returns the time for which the server keeps a slot at least, after the last request on it.
    pub(crate) fn min_hold(&self, read_timeout: Duration) -> Duration {
        Duration::from_secs(self.lease).min(read_timeout)
    }
}
