//! What a server did, told to whoever checks it.

use std::fmt;
use std::sync::Arc;

use crate::wire::Token;

/// Something that happened at the table. Connections and waiters are numbered as they come, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "hidden, and the names say it")]
pub enum Event {
    /// A waiter stands in line.
    Joined { key: Arc<str>, waiter: u64, connection: u64 },
    /// A waiter left the line without a slot.
    Left { key: Arc<str>, waiter: u64 },
    /// A slot was granted: at once, or to a waiter in line.
    Granted { key: Arc<str>, token: Token, connection: u64, waiter: Option<u64> },
    /// A lease began anew.
    Renewed { token: Token },
    /// A slot is free again.
    Ended { key: Arc<str>, token: Token, why: Ending },
    /// A connection was silent for the read timeout, and ends now.
    Silent { connection: u64 },
}

/// Why a slot is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody released it.
    Released,
    /// Its lease was over.
    Expired,
    /// [`Faults::expire`](super::Faults::expire).
    Forced,
    /// Its connection ended.
    Disconnected,
}

/// Whoever is told, if anybody; behind the lock of the key, so it must not ask the server anything.
#[derive(Clone, Default)]
pub(super) struct Observer(pub(super) Option<Arc<dyn Fn(Event) + Send + Sync>>);

impl Observer {
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.0 {
            observer(event());
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}
