//! Requests that end with the close of the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::SemaphoreInner;
use crate::error::{Error, Operation};
use crate::lease::LeaseConfig;

pin_project! {
    /// Polls `future` until it is ready or the client is closed.
    ///
    /// Written by hand and not as an `async fn`, because that would store `future` twice.
    pub(super) struct UntilClosed<'a, F, C> {
        #[pin]
        future: F,
        #[pin]
        closed: C,
        config: &'a LeaseConfig,
        operation: Operation,
    }
}

impl SemaphoreInner {
    /// Awaits `future`, or returns an error as soon as the client is closed.
    pub(super) fn until_closed<T, F>(
        &self,
        operation: Operation,
        future: F,
    ) -> impl Future<Output = Result<T, Error>>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let config = &*self.config;
        UntilClosed {
            future,
            closed: config.holds.closed(),
            config,
            operation,
        }
    }
}

impl<T, F, C> Future for UntilClosed<'_, F, C>
where
    F: Future<Output = Result<T, Error>>,
    C: Future<Output = ()>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.future.poll(cx) {
            return Poll::Ready(result);
        }
        this.closed
            .poll(cx)
            .map(|()| Err(this.config.closed(*this.operation)))
    }
}
