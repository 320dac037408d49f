//! The builder of a lock.

use super::Lock;
use crate::error::ConfigError;
use crate::semaphore::{Idle, Semaphore};
use crate::slot::{SemaphoreInner, handle_builder};
use crate::wire::Primitive;

handle_builder!(
    LockBuilder,
    Lock<Idle>,
    "Builder of a [`Lock`], returned by [`Lock::builder`].\n\n\
     A call of `build` without `key` does not compile.",
    {}
);

impl From<Options> for Result<Lock<Idle>, ConfigError> {
    fn from(options: Options) -> Self {
        Ok(Lock(Semaphore::new(SemaphoreInner::new(
            options.into_raw(Primitive::Lock),
        )?)))
    }
}

impl Lock {
    /// Returns a builder of a lock; `key` is required.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use dflock::{Client, Lock};
    ///
    /// let nightly = Lock::builder()
    ///     .key("nightly")
    ///     .acquire_timeout(Duration::ZERO) // only if it is free
    ///     .client(Client::builder().build()?)
    ///     .build()?;
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    pub fn builder() -> LockBuilder {
        Options::builder()
    }
}
