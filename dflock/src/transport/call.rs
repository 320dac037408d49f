//! One request and its reply.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Fault};
use crate::wire::{Key, Kind, Reply, Request};

impl Connection {
    /// Sends `request`, and hands the connection back with the reply to it, which may take `limit`. Replies that were owed before
    /// are passed over.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped closes the connection: a late reply can never answer the next request. A slot that was granted and not
    /// heard of yet is given back.
    pub(crate) fn call<'a>(mut self: Box<Self>, request: &Request<'a>, limit: Duration) -> Call<'a> {
        let now = Instant::now();
        // what is too far to be counted never comes
        self.set_alarm(now, now.checked_add(limit));
        self.send(request);
        Call { connection: Some(self), slot: request.slot(), limit }
    }
}

/// A request that is under way.
#[must_use = "nothing is sent before it is polled"]
pub(crate) struct Call<'a> {
    /// Gone when the reply has come.
    connection: Option<Box<Connection>>,
    /// What a grant would be a slot of.
    slot: Option<(Key<'a>, Kind)>,
    limit: Duration,
}

impl Future for Call<'_> {
    type Output = Result<(Box<Connection>, Reply), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let limit = self.limit;
        let Some(connection) = &mut self.connection else { return Poll::Ready(Err(Fault::Closed)) };
        let reply = match connection.poll_last_reply(cx) {
            Poll::Ready(reply) => reply?,
            // whoever waits for a reply hears of the alarm, too
            Poll::Pending if connection.poll_alarm().is_ready() => return Poll::Ready(Err(Fault::Silence(limit))),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(self.connection.take().map(|connection| (connection, reply)).ok_or(Fault::Closed))
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && let Some((key, kind)) = self.slot
            && let Some(Reply::Granted(grant) | Reply::Acquired(grant)) = connection.hear_last()
        {
            connection.send(&Request::Release { key, kind, token: grant.token });
        }
    }
}
