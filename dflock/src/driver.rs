//! The timer and IO drivers of a tokio runtime, which a runtime may lack.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::Sleep;

use crate::error::ConfigError;

/// Returns the id of the current runtime.
pub(crate) fn runtime_id() -> Result<Id, ConfigError> {
    Handle::try_current()
        .map(|handle| handle.id())
        .map_err(|_| ConfigError::NoRuntime)
}

/// Returns the id of the current runtime, or an error if it has no timers.
pub(crate) fn require_timers() -> Result<Id, ConfigError> {
    let runtime = runtime_id()?;
    try_sleep(Duration::ZERO).map(|_| runtime)
}

/// Returns the future of [`tokio::time::sleep`], or an error where tokio panics.
pub(crate) fn try_sleep(duration: Duration) -> Result<Sleep, ConfigError> {
    runtime_id()?;
    // Tokio offers no way to query the drivers of a runtime. Creating a timer registers nothing.
    catch_unwind(|| tokio::time::sleep(duration)).map_err(missing_driver_error)
}

/// Awaits `future`. Returns an error if tokio panics in it because the runtime lacks a driver.
pub(crate) async fn catch_missing_driver<F: Future>(future: F) -> Result<F::Output, ConfigError> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        // After a panic the future is dropped, and not polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(missing_driver_error(panic))),
        }
    })
    .await
}

/// Returns the error for a panic of tokio about a missing driver, and resumes any other panic.
fn missing_driver_error(panic: Box<dyn Any + Send>) -> ConfigError {
    let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        (None, None) => "",
    };
    // Tokio's message names the missing call on the runtime's builder.
    if message.contains("`enable_time`") {
        ConfigError::NoTimers
    } else if message.contains("`enable_io`") {
        ConfigError::NoIo
    } else {
        resume_unwind(panic)
    }
}
