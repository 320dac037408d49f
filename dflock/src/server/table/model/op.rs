//! Operations of the model, parsed from bytes.

use std::time::Duration;

use crate::wire::{LeaseSeconds, Limit, Primitive};

/// An operation on the table. Connections, waiters and tokens are given by index.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Acquire {
        connection: usize,
        key: &'static str,
        primitive: Primitive,
        lease: LeaseSeconds,
    },
    Enqueue {
        connection: usize,
        key: &'static str,
        primitive: Primitive,
        lease: LeaseSeconds,
    },
    Wait {
        connection: usize,
        key: &'static str,
    },
    TakeGrant {
        waiter: usize,
    },
    CancelWait {
        waiter: usize,
    },
    Release {
        token: usize,
    },
    Renew {
        token: usize,
        lease: LeaseSeconds,
    },
    Disconnect {
        connection: usize,
    },
    Expire {
        key: &'static str,
    },
    Advance {
        time: Duration,
    },
    Sweep,
    Gc,
}

impl Op {
    /// Parses a letter and up to four digits, such as `l0125`. Any other bytes are an operation,
    /// too.
    ///
    /// There are few connections, keys, limits and leases, so that operations conflict often.
    pub(super) fn parse(line: &[u8]) -> Self {
        let byte = |at| line.get(at).copied().unwrap_or_default();
        let digit = |at| usize::from(byte(at) & 7);
        let connection = digit(1) % 4;
        let key = |at| ["a", "b", "c"][digit(at) % 3];
        // Zero is not a valid lease.
        let lease = |at| seconds(u64::from(byte(at) & 7).max(1));
        // Limit 0 means a lock.
        let primitive =
            Limit::new(u32::from(byte(3) & 7) % 3).map_or(Primitive::Lock, Primitive::Semaphore);
        // Unused letters are mapped to the operations that should be frequent.
        match byte(0) & 31 | b'`' {
            b'e' | b'f' | b'h' | b'i' | b'j' => Self::Enqueue {
                connection,
                key: key(2),
                primitive,
                lease: lease(4),
            },
            b'w' | b'v' | b'y' | b'z' => Self::Wait {
                connection,
                key: key(2),
            },
            b'c' | b'b' | b'k' => Self::TakeGrant { waiter: digit(1) },
            b'u' => Self::CancelWait { waiter: digit(1) },
            b'r' | b'o' | b'p' | b'q' => Self::Release { token: digit(1) },
            b'n' | b'm' => Self::Renew {
                token: digit(1),
                lease: lease(2),
            },
            b'd' => Self::Disconnect { connection },
            b'x' => Self::Expire { key: key(1) },
            b't' | b'{' | b'|' => Self::Advance {
                time: Duration::from_millis(
                    u64::from(byte(1) & 15) * 250 + u64::from(byte(2) & 15),
                ),
            },
            b's' => Self::Sweep,
            b'g' => Self::Gc,
            _ => Self::Acquire {
                connection,
                key: key(2),
                primitive,
                lease: lease(4),
            },
        }
    }
}

pub(super) fn seconds(lease: u64) -> LeaseSeconds {
    LeaseSeconds::new(Duration::from_secs(lease)).expect("the leases of the model are valid")
}
