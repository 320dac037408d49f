//! The future of a call that one of the engines serves.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// A call on dflockd, whose output `map` converts, or a call on etcd.
    ///
    /// An `async` block would store the arguments of the call once more, and every acquire and every
    /// release moves this future.
    #[project = DispatchProjection]
    pub(super) enum Dispatch<'a, F, M, T> {
        Dflockd { #[pin] call: F, map: M },
        Etcd { call: Pin<Box<dyn Future<Output = T> + Send + 'a>> },
    }
}

impl<F: Future, M: Fn(F::Output) -> T, T> Future for Dispatch<'_, F, M, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            DispatchProjection::Dflockd { call, map } => call.poll(cx).map(map),
            DispatchProjection::Etcd { call } => call.as_mut().poll(cx),
        }
    }
}
