//! One request and its reply.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

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
        self.set_deadline(limit);
        self.send(request);
        Call { connection: Some(self), slot: request.slot(), limit }
    }
}

/// A request that is under way.
#[must_use = "the connection closes when it is dropped"]
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
            Poll::Pending if connection.poll_deadline().is_ready() => return Poll::Ready(Err(Fault::Silence(limit))),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance, timeout};

    use super::*;
    use crate::transport::Clock;
    use crate::transport::once::at_once;

    #[tokio::test(start_paused = true)]
    async fn the_limit_of_each_call_is_its_own() {
        let second = Duration::from_secs(1);
        let (ours, mut theirs) = duplex(100);
        let mut connection = Connection::new(Box::new(ours), Clock::Tokio.now());
        // the alarm is too late, rings with the reply, for nobody, or too early for the next
        for (limit, reply_after) in [(8, 0), (2, 1), (5, 4), (1, 0), (9, 8), (2, 0), (u32::MAX, 9), (9, 0)] {
            let limit = if limit == u32::MAX { Duration::MAX } else { limit * second };
            let mut call = connection.call(&Request::Ping, limit);
            assert!(at_once(|cx| Pin::new(&mut call).poll(cx)).is_pending());
            advance(reply_after * second).await;
            // one that is never over takes no notice of the alarm, but the next does
            assert!(limit < Duration::MAX || at_once(|cx| Pin::new(&mut call).poll(cx)).is_pending());
            theirs.write_all(b"ok\n").await.unwrap();
            connection = call.await.unwrap().0;
        }
        let asked = Instant::now();
        let silence = timeout(60 * second, connection.call(&Request::Ping, 3 * second)).await.expect("no alarm rang");
        assert!(matches!(silence, Err(Fault::Silence(limit)) if limit == 3 * second), "{silence:?}");
        assert_eq!(asked.elapsed(), 3 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_has_no_time_left_ends_at_once() {
        let (ours, _theirs) = duplex(100);
        let silence =
            timeout(Duration::from_mins(1), Connection::new(Box::new(ours), Clock::Tokio.now()).call(&Request::Ping, Duration::ZERO)).await;
        assert!(matches!(silence, Ok(Err(Fault::Silence(Duration::ZERO)))), "{silence:?}");
    }
}
