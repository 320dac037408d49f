//! Integration tests of dflock: one binary with a module for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test"
)]

mod auto_traits;
mod bad_input;
mod body_drop;
mod cancellation;
mod client;
mod conformance;
mod connection;
mod cycles;
mod descriptors;
mod drop;
mod etcd;
#[path = "../../dflock/tests/etcd/cluster.rs"]
mod etcd_cluster;
mod fence;
mod fixture;
mod future_size;
mod grant;
mod interop;
mod known_bugs;
mod lease;
mod lock;
mod macros;
mod metrics;
mod public_api;
mod reused_connection;
mod runtimes;
mod scripted_server;
mod semaphore;
mod server;
mod simulation;
#[path = "../../dflock/tests/cli/skipped.rs"]
mod skipped;
mod stats;
mod suspend;
mod tls;
mod tower;
mod two_phase;
mod ui;
mod waker;
