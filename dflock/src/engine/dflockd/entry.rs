//! An entry in the queue of a key.

use std::any::Any;
use std::iter;
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
pub(crate) struct Entry {
    pub(super) connection: Box<Connection>,
    /// The permits after the first one. `None` for a single permit, which costs nothing here.
    further: Option<Box<FurtherPermits>>,
}

/// The permits of a hold after the first one, and the replies to a renewal of all of them.
#[derive(Debug)]
struct FurtherPermits {
    grants: Box<[Grant]>,
    /// The number of replies to the last renewal that have been read.
    replies: usize,
    /// The shortest lease in these replies. `None` if no time of one of them is left.
    shortest: Option<LeaseSeconds>,
}

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
    pub(super) fn new(connection: Box<Connection>) -> Self {
        let further = None;
        Self {
            connection,
            further,
        }
    }

    /// Returns the entry of several permits: that of the owner's grant, and `further` ones.
    pub(super) fn with_permits(connection: Box<Connection>, further: Box<[Grant]>) -> Self {
        let further = (!further.is_empty()).then(|| {
            Box::new(FurtherPermits {
                grants: further,
                replies: 0,
                shortest: None,
            })
        });
        Self {
            connection,
            further,
        }
    }

    pub(super) fn is_single(&self) -> bool {
        self.further.is_none()
    }

    /// Returns the number of permits.
    pub(crate) fn permits(&self) -> u32 {
        let further = self.further.as_ref();
        let further = further.map_or(0, |further| further.grants.len());
        u32::try_from(further + 1).unwrap_or(u32::MAX)
    }

    /// Returns the tokens of the permits after the first one. `None` for a single permit.
    pub(crate) fn further_tokens(&self) -> Option<Box<[Token]>> {
        let further = self.further.as_ref()?;
        Some(further.grants.iter().map(|grant| grant.token).collect())
    }

    /// Sends the request that waits for the grant, with the longest wait that the protocol can
    /// express.
    pub(crate) fn start_wait(&mut self, slot: &SlotSpec) {
        let (key, kind) = (slot.key.as_key(), slot.kind());
        self.connection.send(&Request::Wait {
            key,
            kind,
            wait: Seconds::MAX,
        });
    }

    /// Reads the grant that the entry waits for.
    pub(crate) fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<Result<Grant, EntryError>> {
        Poll::Ready(match ready!(self.connection.poll_reply(cx)) {
            Ok(Reply::Granted(grant)) => Ok(grant),
            Ok(other) => Err(EntryError::Rejected(other)),
            Err(error) => Err(EntryError::Failed(error)),
        })
    }

    /// Returns the grant if it has been received but not read. For use in `Drop`.
    pub(crate) fn try_grant(&mut self) -> Option<Grant> {
        match self.connection.try_last_reply() {
            Some(Reply::Granted(grant)) => Some(grant),
            _ => None,
        }
    }

    /// Sends a renewal of the slot of `token`, and of the further permits, that requests `lease`, or
    /// the server's default.
    pub(crate) fn start_renewal(
        &mut self,
        slot: &SlotSpec,
        token: Token,
        lease: Option<LeaseSeconds>,
    ) {
        self.connection.send(&renewal(slot, token, lease));
        if let Some(further) = &mut self.further {
            for grant in &further.grants {
                self.connection.send(&renewal(slot, grant.token, lease));
            }
            further.replies = 0;
        }
    }

    /// Reads the lease after the renewal of `grant` that requested a lease. `None` if no time of it
    /// is left. With further permits it is the shortest lease of all.
    pub(crate) fn poll_renewal(
        &mut self,
        cx: &mut Context<'_>,
        requested: Option<LeaseSeconds>,
        grant: &Grant,
    ) -> Poll<Result<Option<LeaseSeconds>, EntryError>> {
        let Some(further) = &mut self.further else {
            let reply = ready!(self.connection.poll_reply(cx)).map_err(EntryError::Failed)?;
            return Poll::Ready(renewed_lease(reply, requested, grant));
        };
        loop {
            let reply = ready!(self.connection.poll_reply(cx)).map_err(EntryError::Failed)?;
            let grant = match further.replies {
                0 => grant,
                replies => &further.grants[replies - 1],
            };
            let lease = renewed_lease(reply, requested, grant)?;
            further.shortest = match further.replies {
                0 => lease,
                // `None` is the least.
                _ => further.shortest.min(lease),
            };
            further.replies += 1;
            if further.replies > further.grants.len() {
                return Poll::Ready(Ok(further.shortest));
            }
        }
    }

    /// Completes when the entry has ended at the server: the connection was closed, or an
    /// unsolicited line was received.
    pub(crate) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_closed(cx).map(drop)
    }

    /// Completes within `delay`, which counts from the last request of a caller.
    pub(crate) fn poll_delay(&mut self, cx: &mut Context<'_>, delay: Duration) -> Poll<()> {
        self.connection.poll_delay(cx, delay)
    }

    /// Frees the timer of [`poll_delay`](Self::poll_delay). The owner uses another timer.
    pub(crate) fn free_timer(&mut self) {
        self.connection.free_timer();
    }

    /// Gives up the slot of `token`, and the further permits, without waiting for a reply. It sends
    /// the releases as far as the socket accepts them without blocking, and closes the connection.
    /// Needs no runtime.
    pub(crate) fn abandon(mut self, slot: &SlotSpec, token: Token) {
        self.connection.send(&release(slot, token));
        for grant in self.further.iter().flat_map(|further| &further.grants) {
            self.connection.send(&release(slot, grant.token));
        }
    }

    /// Releases the slot of `token` and the further permits. Returns the connection with the reply
    /// to each release; all must arrive within `limit`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection, which gives up the slots.
    pub(super) async fn release_all(
        mut self,
        slot: &SlotSpec,
        token: Token,
        limit: Duration,
    ) -> Result<(Box<Connection>, Vec<Reply>), ConnectionError> {
        let further = self.further.iter().flat_map(|further| &further.grants);
        let tokens = iter::once(token).chain(further.map(|grant| grant.token));
        let requests = tokens.map(|token| release(slot, token));
        let replies = self.connection.call_all(requests, limit).await?;
        Ok((self.connection, replies))
    }

    /// Returns the value that the owner stored with the entry's connection, if it is a `T`. It
    /// stays with the connection when another entry reuses that.
    pub(crate) fn extension<T: Any>(&mut self) -> Option<&mut T> {
        self.connection.extension()
    }

    /// Stores `value` with the entry's connection, in place of the previous one.
    pub(crate) fn set_extension<T: Any + Send>(&mut self, value: T) {
        self.connection.set_extension(value);
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

/// Returns the lease after the renewal of `grant` that requested a lease, from its `reply`. `None`
/// if no time of it is left.
pub(super) fn renewed_lease(
    reply: Reply,
    requested: Option<LeaseSeconds>,
    grant: &Grant,
) -> Result<Option<LeaseSeconds>, EntryError> {
    match reply {
        Reply::Renewed(renewal) if renewal.belongs_to(grant) => {
            Ok(LeaseSeconds::from_seconds(renewal.remaining))
        }
        // A bare `ok` means the lease that was requested.
        Reply::Ok => Ok(Some(requested.unwrap_or(grant.lease))),
        Reply::Error(ErrorStatus::Unspecified | ErrorStatus::LeaseExpired) => {
            Err(EntryError::NotHeld)
        }
        // This includes a renewal with the fence of another slot.
        other => Err(EntryError::Rejected(other)),
    }
}

/// Returns the request that renews the slot of `token`.
pub(super) fn renewal(slot: &SlotSpec, token: Token, lease: Option<LeaseSeconds>) -> Request<'_> {
    Request::Renew {
        key: slot.key.as_key(),
        kind: slot.kind(),
        token,
        lease,
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
