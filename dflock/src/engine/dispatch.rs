//! The future of a call that one of the engines serves.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// A call on dflockd, or a call on etcd.
    ///
    /// An `async` block would store the arguments of the call once more, and every acquire and every
    /// release moves this future.
    #[project = DispatchProjection]
    pub(super) enum Dispatch<'a, F: Future> {
        Dflockd { #[pin] call: F },
        Etcd { call: Pin<Box<dyn Future<Output = F::Output> + Send + 'a>> },
    }
}

impl<F: Future> Future for Dispatch<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            DispatchProjection::Dflockd { call } => call.poll(cx),
            DispatchProjection::Etcd { call } => call.as_mut().poll(cx),
        }
    }
}
