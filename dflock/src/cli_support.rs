//! Functions of the client that the program `dflock` shares.
//!
//! Not part of the public API: they change without notice.

use crate::Client;
pub use crate::client::{env_variables, is_local};

/// Returns the name of the cluster whose members are the servers of `client`, if they are such.
#[must_use]
pub fn cluster(client: &Client) -> Option<String> {
    client.engine().cluster().map(|name| name.to_string())
}

/// Completes when the slots that were dropped are free, on etcd after 5 s at most. No slot is held
/// through `client`, and none can be acquired from here on.
pub async fn shut_down(client: &Client) {
    client.engine().shut_down().await;
}
