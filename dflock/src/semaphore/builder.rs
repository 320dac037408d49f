//! The builder of a semaphore.

use super::{Idle, Semaphore};
use crate::error::ConfigError;
use crate::slot::{SemaphoreInner, handle_builder};
use crate::wire::{Limit, Primitive};

handle_builder!(
    SemaphoreBuilder,
    Semaphore<Idle>,
    "Builder of a [`Semaphore`], returned by [`Semaphore::builder`].\n\n\
     A call of `build` without `key` and `limit` does not compile.",
    {
        #[builder(setter(
            doc = "Sets the number of slots. Required.\n\n\
                   Valid are 1 to 1,048,576. All programs that use the key must give the same \
                   limit."
        ))]
        limit: u32,
    }
);

impl From<Options> for Result<Semaphore<Idle>, ConfigError> {
    fn from(options: Options) -> Self {
        let limit = options.limit;
        let limit = Limit::new(limit).ok_or(ConfigError::Limit { limit })?;
        Ok(Semaphore::new(SemaphoreInner::new(
            options.into_raw(Primitive::Semaphore(limit)),
        )?))
    }
}

impl Semaphore {
    /// Returns a builder of a semaphore; `key` and `limit` are required.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use dflock::{Client, Semaphore};
    ///
    /// let pool = Semaphore::builder()
    ///     .key("worker-pool")
    ///     .limit(5)
    ///     .acquire_timeout(Duration::from_secs(10))
    ///     .lease_ttl(Duration::from_secs(20))
    ///     .on_lost(|lost| eprintln!("{lost}"))
    ///     .client(Client::builder().build()?)
    ///     .build()?;
    /// # Ok::<(), dflock::ConfigError>(())
    /// ```
    ///
    /// ```compile_fail
    /// let pool = dflock::Semaphore::builder().key("worker-pool").build(); // no limit
    /// ```
    pub fn builder() -> SemaphoreBuilder {
        Options::builder()
    }
}
