//! Last test program of `cargo test`: prints how many tests were skipped, and why.
//!
//! The test harness counts a test that returns early as passed. Each test program therefore lists
//! its skipped tests in a file (`dflock/src/skipped.rs`).

use std::collections::BTreeMap;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    // A test runner asks for the list of tests. This program has none.
    if env::args().any(|argument| argument == "--list") {
        return;
    }
    let named = env::var_os("DFLOCK_SKIPPED_REPORT").map(PathBuf::from);
    let report = named
        .clone()
        .unwrap_or_else(|| env::temp_dir().join(format!("dflock-skipped-{}", parent_id())));
    let skipped = fs::read_to_string(&report).unwrap_or_default();
    let mut reasons = BTreeMap::<_, usize>::new();
    for line in skipped.lines() {
        let why = line.split_once("skipped: ").map_or(line, |(_, why)| why);
        *reasons.entry(why).or_default() += 1;
    }
    println!("\n{} tests skipped", skipped.lines().count());
    for (why, count) in reasons {
        println!("  {count}: {why}");
    }
    println!();
    if named.is_none() {
        // The next run has another parent process, and so another file.
        _ = fs::remove_file(report);
    }
}
