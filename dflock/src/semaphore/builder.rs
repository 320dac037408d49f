//! The options of a semaphore.

use std::sync::Arc;
use std::time::Duration;

use typed_builder::TypedBuilder;

use super::{Idle, Semaphore};
use crate::client::Client;
use crate::error::{ConfigError, Lost};
use crate::lease::OnLost;
use crate::slot::{Slot, Wish};
use crate::wire::{Capacity, Limit};

/// What was asked for, not looked at yet.
#[derive(TypedBuilder)]
#[builder(
    builder_method(vis = "pub(super)"),
    builder_type(
        name = SemaphoreBuilder,
        vis = "pub",
        doc = "The options of a [`Semaphore`]; made by [`Semaphore::builder`]. `key` and `limit` are required: without them `build` does not compile."
    ),
    build_method(
        into = Result<Semaphore<Idle>, ConfigError>,
        doc = "Checks the options.\n\n# Errors\n\nA [`ConfigError`] that says which option is refused and what is allowed. Nothing is sent."
    )
)]
pub(super) struct Options {
    #[builder(setter(
        into,
        doc = "The name that all who share the slots give. Required: 1 to 256 bytes without space, tab, line break or NUL."
    ))]
    key: String,

    #[builder(setter(doc = "How many may hold a slot at once. Required: 1 to 1,048,576, and the same for all who use the key."))]
    limit: u32,

    #[builder(
        default = Duration::from_secs(10),
        setter(
            doc = "How long `acquire` and `wait` wait in line. Defaults to 10 s. Zero means \"only if one is free now\"; at most 9,223,372,036 s.\nConnecting, and answers that the server owes at once, have limits of their own: [`ClientBuilder::connect_timeout`](crate::ClientBuilder::connect_timeout) and [`ClientBuilder::socket_timeout`](crate::ClientBuilder::socket_timeout)."
        )
    )]
    acquire_timeout: Duration,

    #[builder(
        default,
        setter(
            strip_option,
            doc = "How long the server keeps the slot without hearing of its holder. Defaults to the server's own (33 s unless it was started with another). Whole seconds from 1 s to 9,223,372,036 s; anything else is refused. The lease is renewed for as long as the slot is held."
        )
    )]
    lease_ttl: Option<Duration>,

    #[builder(
        default = 0.5,
        setter(
            doc = "The part of a lease after which it is renewed. Defaults to 0.5; between 0 and 1, both excluded. However long the lease, it is renewed at the client's [`heartbeat`](crate::ClientBuilder::heartbeat) at the latest."
        )
    )]
    renew_ratio: f64,

    #[builder(
        default,
        setter(
            fn transform(callback: impl Fn(&Lost) + Send + Sync + 'static) -> Option<OnLost> {
                Some(Arc::new(callback) as OnLost)
            },
            doc = "Called once for each hold that is lost, on the task that keeps its lease, so it must not block. Not called for slots that are released or dropped. A panic in it is caught and logged."
        )
    )]
    on_lost: Option<OnLost>,

    #[builder(default, setter(strip_option, doc = "The client to use. Defaults to [`Client::current`]."))]
    client: Option<Client>,
}

impl From<Options> for Result<Semaphore<Idle>, ConfigError> {
    fn from(options: Options) -> Self {
        let Options { key, limit, acquire_timeout, lease_ttl, renew_ratio, on_lost, client } = options;
        let capacity = Capacity::Semaphore(Limit::new(limit).ok_or(ConfigError::Limit { limit })?);
        let slot = Slot::new(Wish { key, capacity, acquire_timeout, lease_ttl, renew_ratio, on_lost, client })?;
        Ok(Semaphore::new(Arc::new(slot)))
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
