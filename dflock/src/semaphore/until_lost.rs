//! Future that ends when a slot is lost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::Error;

pin_project! {
    /// Polls `body` until `lost` is ready. It drops `body` before it returns, so that no guard of the
    /// body outlives the slot while the caller keeps this future.
    ///
    /// Written by hand and not as an `async fn`, because that would store `body` twice: once as its
    /// argument and once where it is polled. The size would double with each call inside of a call.
    pub(super) struct UntilLost<L, F, C> {
        #[pin]
        pub(super) lost: L,
        #[pin]
        pub(super) body: Option<F>,
        // called once with the output of `body`, which is returned unless there is an error
        pub(super) check: C,
    }
}

impl<L, F, C> Future for UntilLost<L, F, C>
where
    L: Future<Output = Error>,
    F: Future,
    C: FnMut(&F::Output) -> Result<(), Error>,
{
    type Output = Result<F::Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        // first, so that a body whose slot is lost is not polled again
        if let Poll::Ready(lost) = this.lost.poll(cx) {
            this.body.set(None);
            return Poll::Ready(Err(lost));
        }
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            panic!("a future that runs a body was polled after it was ready");
        };
        let output = ready!(body.poll(cx));
        this.body.set(None);
        Poll::Ready((this.check)(&output).map(|()| output))
    }
}
