//! Leaks of descriptors and tasks under cancellation and server faults: covers bugs T48, P16, G07.
#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn thousands_of_cycles_leak_nothing() {
    // A separate process, which counts its own resources.
    let output = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(["--cycles", "3000", "--seed", "1"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
