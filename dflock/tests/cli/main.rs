//! The program `dflock`, as a user runs it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on has failed"
)]

#[cfg(target_os = "linux")]
mod container;
mod ends;
mod killed;
mod lost;
mod manual;
mod nested;
mod program;
mod queue;
mod secret_file;
mod serve;
mod signals;
#[cfg(target_os = "linux")]
mod skipped;
mod stats;
mod terminal;
mod tls;
#[cfg(target_os = "linux")]
mod watchdog;
