//! The connection of a lease, used where it lies: its owner may take it away between two polls.

use std::task::{Context, Poll};

use super::Lease;
use crate::transport::Connection;
use crate::wire::Request;

impl Lease {
    pub(super) fn send(&self, request: &Request<'_>) {
        if let Some(connection) = self.line.lock().as_mut() {
            connection.send(request);
        }
    }

    /// Polls the connection until it is ready or taken away (`None`).
    pub(super) async fn on_line<T>(&self, mut poll: impl FnMut(&mut Connection, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        std::future::poll_fn(|cx| match self.line.lock().as_mut() {
            Some(connection) => poll(connection, cx).map(Some),
            None => Poll::Ready(None),
        })
        .await
    }

    /// The same for whoever waits for nothing else: an owner who takes the connection away wakes nobody on it.
    pub(super) async fn stay_on_line<T>(&self, mut poll: impl FnMut(&mut Connection, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                outcome = self.on_line(&mut poll) => return outcome,
                () = self.errand.notified() => {}
            }
        }
    }
}
