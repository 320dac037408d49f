//! Warnings on standard error.

use std::io::{Write, stderr};

/// Prints `message` as a warning.
pub(crate) fn warn(message: &str) {
    // Ignored: without a standard error there is no place to report the failure.
    let _ = writeln!(stderr(), "dflock: warning: {message}");
}
