//! The options of a semaphore.

use super::{Idle, Semaphore};
use crate::error::ConfigError;
use crate::slot::{SemaphoreInner, handle_builder};
use crate::wire::{Capacity, Limit};

handle_builder!(
    SemaphoreBuilder,
    Semaphore<Idle>,
    "The options of a [`Semaphore`]; made by [`Semaphore::builder`]. Without `key` and `limit` it does not compile.",
    {
        #[builder(setter(doc = "How many may hold a slot at once. Required: 1 to 1,048,576, and the same for all who use the key."))]
        limit: u32,
    }
);

impl From<Options> for Result<Semaphore<Idle>, ConfigError> {
    fn from(options: Options) -> Self {
        let limit = options.limit;
        let limit = Limit::new(limit).ok_or(ConfigError::Limit { limit })?;
        Ok(Semaphore::new(SemaphoreInner::new(
            options.into_raw(Capacity::Semaphore(limit)),
        )?))
    }
}

impl Semaphore {
    /// The options of a new semaphore; `key` and `limit` are required.
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
