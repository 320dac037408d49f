//! Functions of the client that the program `dflock` shares.
//!
//! Not part of the public API: they change without notice.

use std::convert::Infallible;

pub use crate::client::{env_variables, is_local};
use crate::{Client, Error, Held, Queued, Semaphore};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
use crate::{ClientBuilder, Tls};

/// Returns the name of the cluster whose members are the servers of `client`, if they are such.
#[must_use]
pub fn cluster(client: &Client) -> Option<String> {
    client.engine().cluster().map(|name| name.to_string())
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
