//! Reports tests that cannot run on this machine. The test harness has no such result and prints
//! `ok`.
//!
//! `tests/lib.rs` includes this file for the tests of the other packages. `tests/summary.rs` reads the
//! report.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::{env, thread};

/// Reports that the test of this thread is skipped, with the reason. The test must return after
/// this call.
///
/// Writes to standard error directly, because the harness hides the output of tests that pass.
pub fn skip(reason: &str) {
    let current = thread::current();
    let line = format!(
        "test {} ... skipped: {reason}\n",
        current.name().unwrap_or("?")
    );
    io::stderr().write_all(line.as_bytes()).unwrap();
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(report_path())
        .unwrap();
    // One write for each line, because other tests and test programs append at the same time.
    (&file).write_all(line.as_bytes()).unwrap();
}

/// Returns the path of the report of one `cargo test`. All of its test programs have the same
/// parent. The folder is not that of Cargo, because unit tests do not know it.
fn report_path() -> PathBuf {
    let default_path = || env::temp_dir().join(format!("dflock-skipped-{}", parent_id()));
    env::var_os("DFLOCK_SKIPPED_REPORT").map_or_else(default_path, PathBuf::from)
}
