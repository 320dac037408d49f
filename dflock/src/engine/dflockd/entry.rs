//! An entry in the queue of a key.

use std::any::Any;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::{Connection, ConnectionError};
use crate::engine::SlotSpec;
use crate::error::{Error, ErrorContext, LostReason};
use crate::wire::{ErrorStatus, Grant, LeaseSeconds, Reply, Request, Seconds, Token};

/// The entry of one wait and the hold that follows it. It owns the connection to which the server
/// attributes them.
///
/// Dropping it closes the connection, which gives up the place in the queue or the slot.
#[derive(Debug)]
pub(crate) struct Entry(pub(super) Box<Connection>);

/// Reason for which an entry has no slot, or no longer has it.
#[derive(Debug)]
pub(crate) enum EntryError {
    /// The server has no such hold, because its lease expired.
    NotHeld,
    /// The server refused, or its reply belongs to another request.
    Rejected(Reply),
    /// The connection failed.
    Failed(ConnectionError),
}

impl Entry {
    /// Sends the request that waits for the grant, with the longest wait that the protocol can
    /// express.
    pub(crate) fn start_wait(&mut self, slot: &SlotSpec) {
        let (key, kind) = (slot.key.as_key(), slot.kind());
        self.0.send(&Request::Wait {
            key,
            kind,
            wait: Seconds::MAX,
        });
    }

    /// Reads the grant that the entry waits for.
    pub(crate) fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<Result<Grant, EntryError>> {
        Poll::Ready(match ready!(self.0.poll_reply(cx)) {
            Ok(Reply::Granted(grant)) => Ok(grant),
            Ok(other) => Err(EntryError::Rejected(other)),
            Err(error) => Err(EntryError::Failed(error)),
        })
    }

    /// Returns the grant if it has been received but not read. For use in `Drop`.
    pub(crate) fn try_grant(&mut self) -> Option<Grant> {
        match self.0.try_last_reply() {
            Some(Reply::Granted(grant)) => Some(grant),
            _ => None,
        }
    }

    /// Sends a renewal of the slot of `token` that requests `lease`, or the server's default.
    pub(crate) fn start_renewal(
        &mut self,
        slot: &SlotSpec,
        token: Token,
        lease: Option<LeaseSeconds>,
    ) {
        self.0.send(&Request::Renew {
            key: slot.key.as_key(),
            kind: slot.kind(),
            token,
            lease,
        });
    }

    /// Reads the lease after the renewal of `grant` that requested a lease. `None` if no time of it
    /// is left.
    pub(crate) fn poll_renewal(
        &mut self,
        cx: &mut Context<'_>,
        requested: Option<LeaseSeconds>,
        grant: &Grant,
    ) -> Poll<Result<Option<LeaseSeconds>, EntryError>> {
        Poll::Ready(match ready!(self.0.poll_reply(cx)) {
            Ok(Reply::Renewed(renewal)) if renewal.belongs_to(grant) => {
                Ok(LeaseSeconds::from_seconds(renewal.remaining))
            }
            // A bare `ok` means the lease that was requested.
            Ok(Reply::Ok) => Ok(Some(requested.unwrap_or(grant.lease))),
            Ok(Reply::Error(ErrorStatus::Unspecified | ErrorStatus::LeaseExpired)) => {
                Err(EntryError::NotHeld)
            }
            // This includes a renewal with the fence of another slot.
            Ok(other) => Err(EntryError::Rejected(other)),
            Err(error) => Err(EntryError::Failed(error)),
        })
    }

    /// Completes when the entry has ended at the server: the connection was closed, or an
    /// unsolicited line was received.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(cx).map(drop)
    }

    /// Completes within `delay`, which counts from the last request of a caller.
    pub(crate) fn poll_delay(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        self.0.poll_delay(cx, delay)
    }

    /// Frees the timer of [`poll_delay`](Self::poll_delay). The owner uses another timer.
    pub(crate) fn free_timer(&mut self) {
        self.0.free_timer();
    }

    /// Gives up the slot of `token` without waiting for a reply. It sends a release as far as the
    /// socket accepts it without blocking, and closes the connection. Needs no runtime.
    pub(crate) fn abandon(mut self, slot: &SlotSpec, token: Token) {
        self.0.send(&release(slot, token));
    }

    /// Returns the value that the owner stored with the entry's connection, if it is a `T`. It
    /// stays with the connection when another entry reuses that.
    pub(crate) fn extension<T: Any>(&mut self) -> Option<&mut T> {
        self.0.extension()
    }

    /// Stores `value` with the entry's connection, in place of the previous one.
    pub(crate) fn set_extension<T: Any + Send>(&mut self, value: T) {
        self.0.set_extension(value);
    }
}

impl EntryError {
    /// Returns the reason of the loss of a hold that ends with this error.
    pub(crate) fn lost_reason(&self) -> LostReason {
        match self {
            Self::Failed(error) if error.is_disconnect() => LostReason::Disconnected,
            Self::Failed(ConnectionError::Timeout(_)) => LostReason::Disconnected,
            Self::NotHeld | Self::Rejected(_) | Self::Failed(_) => LostReason::Rejected,
        }
    }

    pub(crate) fn into_error(self, context: ErrorContext) -> Error {
        match self {
            Self::NotHeld => Error::LeaseExpired { context },
            Self::Rejected(reply) => Error::from_reply(context, &reply),
            Self::Failed(error) => error.into_error(context),
        }
    }
}

/// Returns the request that releases the slot of `token`.
pub(super) fn release(slot: &SlotSpec, token: Token) -> Request<'_> {
    Request::Release {
        key: slot.key.as_key(),
        kind: slot.kind(),
        token,
    }
}
