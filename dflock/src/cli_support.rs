//! Functions of the client that the program `dflock` shares.
//!
//! Not part of the public API: they change without notice.

use std::convert::Infallible;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use std::ffi::OsString;

pub use crate::client::{env_variables, is_local};
use crate::{Client, Error, Held, Queued, Semaphore};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::{ClientBuilder, ConfigError, Tls};

/// Returns the name of the cluster whose members are the servers of `client`, if they are such.
#[must_use]
pub fn cluster(client: &Client) -> Option<String> {
    client.engine().cluster().map(|name| name.to_string())
}

/// Returns a builder with the options that `lookup` returns for the environment variables, and with
/// `trust` in place of `DFLOCK_TLS` and `DFLOCK_TLS_CA`, for which `lookup` then returns `None`.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub fn builder_from_lookup(
    trust: Option<Tls>,
    lookup: impl Fn(&'static str) -> Option<OsString>,
) -> Result<ClientBuilder, ConfigError> {
    ClientBuilder::from_lookup_with_trust(trust, lookup)
}

/// Returns the TLS options of `builder`, if it enables TLS.
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
#[must_use]
pub fn tls(builder: &ClientBuilder) -> Option<&Tls> {
    builder.tls_options()
}

/// Waits for the slot of `queued` without a time limit, and runs `meanwhile` until the wait is over.
pub async fn wait_with(
    queued: Semaphore<Queued>,
    meanwhile: impl AsyncFnOnce(&Semaphore<Queued>) -> Infallible,
) -> Result<Semaphore<Held>, Error> {
    queued.wait_with(meanwhile).await
}

/// Completes when the slots that were dropped are free, on etcd after 5 s at most. No slot is held
/// through `client`, and none can be acquired from here on.
pub async fn shut_down(client: &Client) {
    client.engine().shut_down().await;
}
