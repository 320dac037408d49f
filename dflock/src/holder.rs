//! A holder of a key, as an operator sees it.

use std::time::SystemTime;

use crate::wire::Token;

/// A holder of a key, returned by [`Client::holders`](crate::Client::holders).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The token of the grant, for [`Client::revoke`](crate::Client::revoke).
    pub token: Token,
    /// The lock of the key is held. Otherwise slots of its semaphore are.
    pub is_lock: bool,
    /// The number of slots that it holds.
    pub permits: u32,
    /// The limit of the key.
    pub limit: u32,
    /// The name of its machine.
    pub host: String,
    /// The id of its process.
    pub pid: u32,
    /// The file name of its program.
    pub program: String,
    /// The time at which it joined the queue, by the clock of its machine.
    pub joined_at: SystemTime,
}
