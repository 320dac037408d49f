//! Functions that expanded attribute macros call.
//!
//! Not part of the public API: they change without notice.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tracing::Instrument;

use crate::client::Client;
use crate::error::{ConfigError, Error};
use crate::semaphore::{Held, Idle, Kind, Semaphore};
use crate::telemetry;

/// Clones the client of the argument `client`.
///
/// Deref coercion at the call accepts a client behind a pointer such as an `Arc`.
#[must_use]
pub fn client(client: &Client) -> Client {
    client.clone()
}

/// Runs `body` with a slot of a semaphore or a lock.
pub fn with_slot<K: Kind, R, B, F>(
    semaphore: Result<Semaphore<Idle, K>, ConfigError>,
    on_lost: OnLost<R>,
    body: B,
) -> impl Future<Output = R>
where
    B: FnOnce(Arc<Semaphore<Held, K>>) -> F,
    F: Future<Output = R>,
{
    // Boxed, because otherwise each of the nested futures would reserve space for the captures of
    // `body`, which are all arguments of the annotated function.
    let body = Box::new(body);
    async move {
        run(semaphore, &on_lost, body)
            .await
            .unwrap_or_else(on_lost.from_error)
    }
}

/// Returns the behaviour of `on_lost = cancel`: the loss of the slot cancels the body.
#[must_use]
pub fn cancel<R: MacroOutput>() -> OnLost<R> {
    OnLost {
        cancels: true,
        skip: None,
        from_error: R::from_error,
        is_success: R::is_success,
    }
}

/// Returns the behaviour of `on_lost = finish`: the body runs to its end.
#[must_use]
pub fn finish<R: MacroOutput>() -> OnLost<R> {
    OnLost {
        cancels: false,
        skip: None,
        from_error: R::from_error,
        is_success: R::is_success,
    }
}

/// Returns the function that makes the output for `when_busy = skip`.
#[must_use]
pub fn skip<R: SkipOutput>() -> fn() -> R {
    R::skipped
}

/// Behaviour of an annotated function whose slot is lost, busy, or cannot be acquired.
pub struct OnLost<R> {
    cancels: bool,
    /// Makes the output when no slot is free. `None` waits for a slot.
    skip: Option<fn() -> R>,
    from_error: fn(Error) -> R,
    is_success: fn(&R) -> bool,
}

impl<R> OnLost<R> {
    /// Returns the output of `skip` when no slot is free, instead of waiting for one.
    #[must_use]
    pub fn when_busy(self, skip: fn() -> R) -> Self {
        Self {
            skip: Some(skip),
            ..self
        }
    }
}

/// Return type of an annotated function.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`, but the acquire of the slot may fail",
    label = "not a `Result`",
    note = "let the function return a `Result` whose error is `From<dflock::Error>`"
)]
pub trait MacroOutput {
    /// Returns the output for a failed acquire or a lost slot.
    fn from_error(error: Error) -> Self;

    /// Returns whether the body returned a value and not an error.
    fn is_success(&self) -> bool;
}

impl<T, E: FromDflockError> MacroOutput for Result<T, E> {
    fn from_error(error: Error) -> Self {
        Err(E::from_dflock(error))
    }

    fn is_success(&self) -> bool {
        self.is_ok()
    }
}

/// Return type of a function with `when_busy = skip`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`, but `when_busy = skip` returns `Ok`",
    label = "not a `Result`",
    note = "let the function return a `Result` whose value has a default"
)]
pub trait SkipOutput {
    /// Returns the output when no slot is free.
    fn skipped() -> Self;
}

impl<T: SkipValue, E> SkipOutput for Result<T, E> {
    fn skipped() -> Self {
        Ok(T::skip_value())
    }
}

/// Value type of the `Result` of a function with `when_busy = skip`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Default`, but `when_busy = skip` returns `Ok(Default::default())`",
    label = "the value of this `Result` has no default",
    note = "implement `Default` for it, return an `Option` of it, or leave `when_busy` out"
)]
pub trait SkipValue {
    /// Returns the default.
    fn skip_value() -> Self;
}

// With this the compiler shows the message above instead of one about `Default`.
#[diagnostic::do_not_recommend]
impl<T: Default> SkipValue for T {
    fn skip_value() -> Self {
        T::default()
    }
}

/// Error type that a `dflock::Error` can be converted to.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `From<dflock::Error>`, but the acquire of the slot may fail",
    label = "the error of this `Result` is not `From<dflock::Error>`",
    note = "implement `From<dflock::Error>` for it, or add it as a bound of the type parameter"
)]
pub trait FromDflockError {
    /// Converts `error`.
    fn from_dflock(error: Error) -> Self;
}

// With this the compiler shows the message above instead of one about `From`.
#[diagnostic::do_not_recommend]
impl<E: From<Error>> FromDflockError for E {
    fn from_dflock(error: Error) -> Self {
        error.into()
    }
}

async fn run<K: Kind, R, F: Future<Output = R>>(
    semaphore: Result<Semaphore<Idle, K>, ConfigError>,
    on_lost: &OnLost<R>,
    body: Box<impl FnOnce(Arc<Semaphore<Held, K>>) -> F>,
) -> Result<R, Error> {
    let held = match on_lost.skip {
        None => semaphore?.acquire_for_body().await?,
        Some(skip) => match semaphore?.try_acquire_for_body().await? {
            Some(held) => held,
            None => return Ok(skip()),
        },
    };
    // An `Arc` instead of a reference, because the compiler cannot always prove that a future that
    // is generic over a lifetime, such as that of an async closure, is `Send`.
    let held = Arc::new(held);
    // Boxed, so that nested calls of annotated functions do not add up to one large future.
    let body = Box::pin(body(held.clone()).instrument(held.span()));
    let (value, discard_if_lost) = if on_lost.cancels {
        // `body` may have blocked the executor for longer than the lease.
        let check = |value: &R| {
            if (on_lost.is_success)(value) {
                held.check().inspect_err(telemetry::warn_discarded_value)?;
            }
            Ok(())
        };
        let value = held.until_lost(body, check).await?;
        let is_success = (on_lost.is_success)(&value);
        (value, is_success)
    } else {
        (body.await, false)
    };
    // The body has been dropped, and with it its reference to `held`.
    if let Some(held) = Arc::into_inner(held) {
        match held.release().await {
            Err(Error::Lost(lost)) if discard_if_lost => {
                telemetry::warn_discarded_value(&lost);
                return Err(lost.into());
            }
            Err(error) => telemetry::warn_release_failure(&error),
            Ok(_) => {}
        }
    }
    Ok(value)
}

impl<R> fmt::Debug for OnLost<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cancels { "cancel" } else { "finish" })
    }
}
