//! What became of one grant.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::history::{Asked, How};

pub(super) struct Grant {
    pub(super) key: Arc<str>,
    pub(super) at: Duration,
    /// Which server, and its number for the connection.
    pub(super) link: (usize, u64),
    pub(super) ended: Option<(Duration, Cause)>,
    pub(super) had: Option<Had>,
    pub(super) doubted: Option<Duration>,
    pub(super) on_lost: Vec<Duration>,
    /// Since when somebody waited to be told, and when he was.
    pub(super) told: Option<(Duration, Duration)>,
    /// When bodies of `run` came to their ends.
    pub(super) worked: Vec<Duration>,
    pub(super) gone: Option<(Duration, How, bool)>,
    pub(super) released: Option<Result<(), &'static str>>,
}

/// A user had it.
pub(super) struct Had {
    pub(super) at: Duration,
    pub(super) lease: Duration,
    pub(super) asked: Asked,
    /// Whether only the body of a `with_slot` had it.
    pub(super) in_body: bool,
}

/// Why the server gave it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Released,
    /// Its lease was over.
    Expired,
    /// Its connection was silent for the read timeout.
    Silent,
    /// Its connection ended, or the server, or an operator ended its lease.
    Gone,
}

impl Grant {
    pub(super) fn new(key: &Arc<str>, at: Duration, link: (usize, u64)) -> Self {
        let (ended, had, doubted, on_lost, told, worked, gone, released) =
            (None, None, None, Vec::new(), None, Vec::new(), None, None);
        Self {
            key: Arc::clone(key),
            at,
            link,
            ended,
            had,
            doubted,
            on_lost,
            told,
            worked,
            gone,
            released,
        }
    }
}
