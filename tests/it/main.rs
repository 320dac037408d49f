//! The integration tests.

mod server;
