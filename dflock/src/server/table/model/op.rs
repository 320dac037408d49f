//! One operation on the table, from bytes.

use std::time::Duration;

use super::seconds;
use crate::wire::{Capacity, LeaseSeconds, Limit};

/// What is done to the table. Connections, waiters and tokens are told by their place among those that there are.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Acquire { connection: usize, key: &'static str, capacity: Capacity, lease: LeaseSeconds },
    Enqueue { connection: usize, key: &'static str, capacity: Capacity, lease: LeaseSeconds },
    Wait { connection: usize, key: &'static str },
    Collect { waiter: usize },
    GiveUp { waiter: usize },
    Release { token: usize },
    Renew { token: usize, lease: LeaseSeconds },
    Disconnect { connection: usize },
    Expire { key: &'static str },
    Advance { time: Duration },
    Sweep,
    Gc,
}

impl Op {
    /// Reads a letter and up to four digits, `l0125` for one; any other bytes stand for some of these, too.
    ///
    /// There are few connections, keys, limits and leases, so that they meet.
    pub(super) fn read(line: &[u8]) -> Self {
        let byte = |at| line.get(at).copied().unwrap_or_default();
        let digit = |at| usize::from(byte(at) & 7);
        let connection = digit(1) % 4;
        let key = |at| ["a", "b", "c"][digit(at) % 3];
        // there is no lease of zero
        let lease = |at| seconds(u64::from(byte(at) & 7).max(1));
        // limit 0 stands for a lock
        let capacity = Limit::new(u32::from(byte(3) & 7) % 3).map_or(Capacity::Lock, Capacity::Semaphore);
        // letters that mean nothing stand for what should come often
        match byte(0) & 31 | b'`' {
            b'e' | b'f' | b'h' | b'i' | b'j' => Self::Enqueue { connection, key: key(2), capacity, lease: lease(4) },
            b'w' | b'v' | b'y' | b'z' => Self::Wait { connection, key: key(2) },
            b'c' | b'b' | b'k' => Self::Collect { waiter: digit(1) },
            b'u' => Self::GiveUp { waiter: digit(1) },
            b'r' | b'o' | b'p' | b'q' => Self::Release { token: digit(1) },
            b'n' | b'm' => Self::Renew { token: digit(1), lease: lease(2) },
            b'd' => Self::Disconnect { connection },
            b'x' => Self::Expire { key: key(1) },
            b't' | b'{' | b'|' => Self::Advance { time: Duration::from_millis(u64::from(byte(1) & 15) * 250 + u64::from(byte(2) & 15)) },
            b's' => Self::Sweep,
            b'g' => Self::Gc,
            _ => Self::Acquire { connection, key: key(2), capacity, lease: lease(4) },
        }
    }
}
