//! The integration tests.

// a test that fails may panic
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ui;
