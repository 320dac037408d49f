//! The integration tests of dflock: one binary, a module for each behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod client;
mod conformance;
mod drop;
mod house;
mod lease;
mod lock;
mod semaphore;
mod server;
mod two_phase;
