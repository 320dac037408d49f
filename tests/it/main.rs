//! Integration tests of dflock: one binary with a module for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test"
)]

mod acquire_all;
mod acquire_many;
mod auto_traits;
mod bad_input;
mod blocking;
mod body_drop;
mod busy;
mod cancellation;
mod client;
mod close;
mod connection;
mod cycles;
mod descriptors;
mod drop;
mod etcd;
mod fence;
mod fixture;
mod future_size;
mod grant;
mod hold_limits;
mod interop;
mod known_bugs;
mod lead;
mod lease;
mod limit_mismatch;
mod local_queue;
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
mod stats;
mod suspend;
mod tls;
mod tower;
mod transcripts;
mod two_phase;
mod waker;
