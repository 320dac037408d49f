//! What the attribute macros call. No part of the public API: it changes without notice.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use tracing::Instrument;

use crate::client::Client;
use crate::error::{ConfigError, Error};
use crate::lock::Lock;
use crate::semaphore::{Held, Semaphore};
use crate::telemetry;

/// The client that is named, by value or behind a pointer.
#[must_use]
pub fn client(named: &Client) -> Client {
    named.clone()
}

/// Runs `body` with a slot of a semaphore.
pub fn semaphore<R, B, F>(
    built: Result<Semaphore, ConfigError>,
    on_lost: OnLost<R>,
    body: B,
) -> impl Future<Output = R>
where
    B: FnOnce(Arc<Semaphore<Held>>) -> F,
    F: Future<Output = R>,
{
    // boxed, because each future on the way keeps room for what it captures: for all that the
    // annotated function was called with
    let body = Box::new(body);
    async move {
        run(built, &on_lost, body)
            .await
            .unwrap_or_else(on_lost.refused)
    }
}

/// Runs `body` with a lock.
pub fn lock<R, B, F>(
    built: Result<Lock, ConfigError>,
    on_lost: OnLost<R>,
    body: B,
) -> impl Future<Output = R>
where
    B: FnOnce(Arc<Semaphore<Held>>) -> F,
    F: Future<Output = R>,
{
    semaphore(built.map(Lock::into_semaphore), on_lost, body)
}

/// The body of a lost slot is stopped, and the caller gets the loss.
#[must_use]
pub fn cancel<R: Outcome>() -> OnLost<R> {
    OnLost {
        stops: true,
        refused: R::refused,
        succeeded: R::succeeded,
    }
}

/// The body of a lost slot runs on, and the caller gets what it gives back.
#[must_use]
pub fn finish<R: Outcome>() -> OnLost<R> {
    OnLost {
        stops: false,
        refused: R::refused,
        succeeded: R::succeeded,
    }
}

/// What becomes of a body whose slot is lost, and of a caller for whom there is none.
pub struct OnLost<R> {
    stops: bool,
    refused: fn(Error) -> R,
    succeeded: fn(&R) -> bool,
}

/// What an annotated function gives back.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Result`, and there may be no slot for this function",
    label = "not a `Result`",
    note = "let the function return a `Result` whose error is `From<dflock::Error>`"
)]
pub trait Outcome {
    /// That there is no slot, or none any more.
    fn refused(error: Error) -> Self;

    /// Whether it is a value, and not an error of the body's own.
    fn succeeded(&self) -> bool;
}

impl<T, E: Carrier> Outcome for Result<T, E> {
    fn refused(error: Error) -> Self {
        Err(E::carrying(error))
    }

    fn succeeded(&self) -> bool {
        self.is_ok()
    }
}

/// An error that can hold ours.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold a `dflock::Error`, and there may be no slot for this function",
    label = "the error of this `Result` is not `From<dflock::Error>`",
    note = "implement `From<dflock::Error>` for it, or, if it is a type parameter, require it: `E: From<dflock::Error>`"
)]
pub trait Carrier {
    /// The error that holds `error`.
    fn carrying(error: Error) -> Self;
}

// so that the message above is shown, not one about `From`
#[diagnostic::do_not_recommend]
impl<E: From<Error>> Carrier for E {
    fn carrying(error: Error) -> Self {
        error.into()
    }
}

async fn run<R, F: Future<Output = R>>(
    built: Result<Semaphore, ConfigError>,
    on_lost: &OnLost<R>,
    body: Box<impl FnOnce(Arc<Semaphore<Held>>) -> F>,
) -> Result<R, Error> {
    // shared, not lent: futures that are generic over a lifetime, as an async closure's is, are not always seen to be `Send`
    let held = Arc::new(built?.acquire_for_body().await?);
    // boxed, so that functions that call each other do not add up to one large future
    let body = Box::pin(body(held.clone()).instrument(held.span()));
    let (value, is_void_when_lost) = if on_lost.stops {
        // `body` may have kept the executor busy for longer than the lease
        let check = |value: &R| {
            if (on_lost.succeeded)(value) {
                held.check().inspect_err(telemetry::value_discarded)?;
            }
            Ok(())
        };
        let value = held.until_lost(body, check).await?;
        let succeeded = (on_lost.succeeded)(&value);
        (value, succeeded)
    } else {
        (body.await, false)
    };
    // the body is gone, and its share with it
    if let Some(held) = Arc::into_inner(held) {
        match held.release().await {
            Err(Error::Lost(lost)) if is_void_when_lost => {
                telemetry::value_discarded(&lost);
                return Err(lost.into());
            }
            Err(error) => telemetry::release_failed(&error),
            Ok(_) => {}
        }
    }
    Ok(value)
}

impl<R> fmt::Debug for OnLost<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.stops { "cancel" } else { "finish" })
    }
}
