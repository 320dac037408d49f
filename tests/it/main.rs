//! The integration tests of dflock: one binary, a module for each behaviour.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

mod auto_traits;
mod bad_input;
mod body_drop;
mod bugs;
mod client;
mod conformance;
mod connection;
mod cut_short;
mod cycles;
mod descriptors;
mod drop;
mod fence;
mod future_size;
mod grant;
mod house;
mod interop;
mod lease;
mod lock;
mod macros;
mod metrics;
mod peer;
mod public_api;
mod runtimes;
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
mod warm;
