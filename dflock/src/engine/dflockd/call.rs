//! One request and its reply.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, ConnectionError};
use crate::wire::{Key, Kind, Reply, Request};

impl Connection {
    /// Sends `request` and returns the connection with the reply, which must arrive within `limit`.
    /// Replies to earlier requests are discarded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the call closes the connection, so that a late reply cannot answer the next
    /// request. If the server has granted a slot in the meantime, it is released first.
    pub(crate) fn call<'a>(
        mut self: Box<Self>,
        request: &Request<'a>,
        limit: Duration,
    ) -> Call<'a> {
        self.send(request);
        let deadline = self.start_call(limit);
        Call {
            connection: Some(self),
            slot: request.slot(),
            limit,
            deadline,
        }
    }
}

/// A request whose reply is pending.
#[must_use = "the connection closes when it is dropped"]
pub(crate) struct Call<'a> {
    /// `None` once the reply has been returned.
    connection: Option<Box<Connection>>,
    /// The slot that a grant would be for.
    slot: Option<(Key<'a>, Kind)>,
    limit: Duration,
    /// `None` if the limit is longer than the clock can represent.
    deadline: Option<Instant>,
}

impl Future for Call<'_> {
    type Output = Result<(Box<Connection>, Reply), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (limit, deadline) = (self.limit, self.deadline);
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(Err(ConnectionError::Closed));
        };
        let reply = match connection.poll_last_reply(cx) {
            Poll::Ready(reply) => reply?,
            Poll::Pending => {
                let is_late = deadline.is_some_and(|at| connection.poll_timer(cx, at).is_ready());
                return if is_late {
                    Poll::Ready(Err(ConnectionError::Timeout(limit)))
                } else {
                    Poll::Pending
                };
            }
        };
        let connection = self.connection.take();
        Poll::Ready(
            connection
                .map(|connection| (connection, reply))
                .ok_or(ConnectionError::Closed),
        )
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && let Some((key, kind)) = self.slot
            && let Some(Reply::Granted(grant) | Reply::Acquired(grant)) =
                connection.try_last_reply()
        {
            connection.send(&Request::Release {
                key,
                kind,
                token: grant.token,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance, timeout};

    use super::*;
    use crate::clock;
    use crate::engine::dflockd::connection::poll_once;

    #[tokio::test(start_paused = true)]
    async fn each_call_has_a_separate_limit() {
        let second = Duration::from_secs(1);
        let (ours, mut theirs) = duplex(100);
        let mut connection = Connection::new(Box::new(ours), clock::Instant::MAX);
        // The timer of the previous call is later, elapses with the reply, has elapsed, or is
        // earlier.
        for (limit, reply_after) in [
            (8, 0),
            (2, 1),
            (5, 4),
            (1, 0),
            (9, 8),
            (2, 0),
            (u32::MAX, 9),
            (9, 0),
        ] {
            let limit = if limit == u32::MAX {
                Duration::MAX
            } else {
                limit * second
            };
            let mut call = connection.call(&Request::Ping, limit);
            assert!(poll_once(|cx| Pin::new(&mut call).poll(cx)).is_pending());
            advance(reply_after * second).await;
            // A call without a deadline does not poll the timer, but the next call does.
            assert!(
                limit < Duration::MAX || poll_once(|cx| Pin::new(&mut call).poll(cx)).is_pending()
            );
            theirs.write_all(b"ok\n").await.unwrap();
            connection = call.await.unwrap().0;
        }
        let sent_at = Instant::now();
        let result = timeout(60 * second, connection.call(&Request::Ping, 3 * second))
            .await
            .expect("the call has no time limit");
        assert!(
            matches!(result, Err(ConnectionError::Timeout(limit)) if limit == 3 * second),
            "{result:?}"
        );
        assert_eq!(sent_at.elapsed(), 3 * second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_with_a_zero_limit_times_out_at_once() {
        let (ours, _theirs) = duplex(100);
        let result = timeout(
            Duration::from_mins(1),
            Connection::new(Box::new(ours), clock::Instant::MAX)
                .call(&Request::Ping, Duration::ZERO),
        )
        .await;
        assert!(
            matches!(result, Ok(Err(ConnectionError::Timeout(Duration::ZERO)))),
            "{result:?}"
        );
    }
}
