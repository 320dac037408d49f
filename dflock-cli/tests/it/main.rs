//! Tests of the program `dflock`, run as a process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic fails the test"
)]

mod auth_token_file;
mod completions;
#[cfg(target_os = "linux")]
mod container;
mod deploy;
mod etcd;
mod messages;
mod nested;
mod process;
mod queue;
mod run;
mod serve;
mod sigkill;
mod signals;
mod slot_loss;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod start;
mod stats;
mod terminal;
mod tls;
#[cfg(target_os = "linux")]
mod watchdog;
