//! No descriptor and no task is left of slots that are cut off anywhere, on a server that misbehaves: T48, P16, G07.
#![cfg(target_os = "linux")]

use std::process::Command;

#[test]
fn thousands_of_cycles_leave_nothing() {
    // in a process of its own, which counts what it has
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
