//! Polling once, for whoever cannot wait.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;

/// Polls outside of the share of time that tokio gives a task, which may be used up.
pub(super) fn at_once<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    let once = pin!(unconstrained(poll_fn(poll)));
    once.poll(&mut Context::from_waker(Waker::noop()))
}

/// The same for whoever leaves: a stream of the user's own that panics would end the program if its panic had led here.
pub(super) fn in_parting<T>(poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    catch_unwind(AssertUnwindSafe(|| at_once(poll))).unwrap_or(Poll::Pending)
}
