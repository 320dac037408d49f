//! A server and its clients, each in a process of its own, and what can go wrong between them.

pub mod clock;
pub mod program;
pub mod proxy;
pub mod raw;
pub mod server;

/// What a program can do about most of its own errors is to end.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
