//! Semaphores and locks on a real etcd cluster of three members.
//!
//! Without an etcd binary the tests are skipped.

mod acquire;
mod auth;
mod bad_input;
mod faults;
mod hold_options;
mod operator;
mod tls;

use std::time::Duration;

use dflock::{Client, ClientBuilder, Semaphore};

use dflock_tests::etcd_cluster::EtcdCluster;

const SECOND: Duration = Duration::from_secs(1);

/// The time in which anything must happen on a slow machine.
const LONG: Duration = Duration::from_mins(1);

fn builder(cluster: &EtcdCluster) -> ClientBuilder {
    let members = cluster.addresses();
    Client::builder().servers(members.iter().map(|member| format!("etcd://{member}")))
}

fn client(cluster: &EtcdCluster) -> Client {
    builder(cluster).build().unwrap()
}

/// Returns a semaphore whose lease is `lease`.
fn semaphore(client: &Client, key: &str, limit: u32, lease: Duration) -> Semaphore {
    Semaphore::builder()
        .key(key)
        .limit(limit)
        .lease_ttl(lease)
        .acquire_timeout(LONG)
        .client(client.clone())
        .build()
        .unwrap()
}
