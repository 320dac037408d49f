//! Tests that cannot run on this machine. The test harness has no such result and prints `ok`.
//!
//! Shared with the integration tests and the unit tests. `tests/summary.rs` reads what is written here.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::{env, thread};

/// Says that the test of this thread is skipped and why, past the harness, which hides the output of
/// tests that pass. The test returns after this call.
pub(crate) fn skip(why: &str) {
    let current = thread::current();
    let line = format!(
        "test {} ... skipped: {why}\n",
        current.name().unwrap_or("?")
    );
    io::stderr().write_all(line.as_bytes()).unwrap();
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(report())
        .unwrap();
    // one write for each line: other tests and test programs append at the same time
    (&file).write_all(line.as_bytes()).unwrap();
}

/// Returns the file that the skipped tests of one `cargo test` are listed in. All of its test programs
/// have the same parent. Unit tests list theirs, too, so the folder is not that of Cargo, which only
/// integration tests know.
fn report() -> PathBuf {
    let of_this_run = || env::temp_dir().join(format!("dflock-skipped-{}", parent_id()));
    env::var_os("DFLOCK_SKIPPED_REPORT").map_or_else(of_this_run, PathBuf::from)
}
