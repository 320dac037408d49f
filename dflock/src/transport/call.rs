//! One request and its reply.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Fault};
use crate::wire::{Reply, Request};

impl Connection {
    /// Sends `request`, and hands the connection back with the reply to it, which may take `limit`. Replies that were owed before
    /// are passed over.
    ///
    /// # Cancel safety
    ///
    /// A call that is dropped closes the connection: a late reply can never answer the next request. A slot that was granted and not
    /// heard of yet is given back.
    pub(crate) async fn call(mut self: Box<Self>, request: &Request<'_>, limit: Duration) -> Result<(Box<Self>, Reply), Fault> {
        // what is too far to be counted never comes
        let deadline = Instant::now().checked_add(limit);
        self.send(request);
        let mut call = Call { connection: Some(self), request };
        let reply = poll_fn(|cx| call.poll_reply(cx, deadline, limit)).await?;
        match call.connection.take() {
            Some(connection) => Ok((connection, reply)),
            None => Err(Fault::Closed),
        }
    }
}

/// A request that is under way.
struct Call<'a> {
    /// Gone when the reply has come.
    connection: Option<Box<Connection>>,
    request: &'a Request<'a>,
}

impl Call<'_> {
    /// The reply to this request.
    fn poll_reply(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>, limit: Duration) -> Poll<Result<Reply, Fault>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(Err(Fault::Closed)) };
        let reply = connection.poll_last_reply(cx);
        // whoever waits for a reply hears of the alarm, too
        if reply.is_pending() && deadline.is_some_and(|deadline| connection.poll_alarm(deadline).is_ready()) {
            return Poll::Ready(Err(Fault::Silence(limit)));
        }
        reply
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && let Some((key, kind)) = self.request.slot()
            && let Some(Reply::Granted(grant) | Reply::Acquired(grant)) = connection.hear_last()
        {
            connection.send(&Request::Release { key, kind, token: grant.token });
        }
    }
}
