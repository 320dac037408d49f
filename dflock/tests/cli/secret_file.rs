//! `--auth-token-file`, and the secret itself in its place.

use std::fs;

use crate::program::{dflock, done, status, text};

const RUN: &[&str] = &["run", "--key", "job"];
const STATS: &[&str] = &["stats"];
const SERVE: &[&str] = &["serve", "--port", "0"];

/// Returns what a command says of `file`, which it refuses.
async fn refusal(command: &[&str], file: &str) -> String {
    let option = format!("--auth-token-file={file}");
    let rest: &[&str] = if command == RUN { &["true"] } else { &[] };
    let output = done(&mut dflock(&[command, &[&option], rest].concat())).await;
    let said = text(&output.stderr);
    assert_eq!(status(&output), 64, "{command:?} {file:?}: {said}");
    said.to_owned()
}

#[tokio::test]
async fn the_secret_in_place_of_its_file_is_not_shown() {
    for command in [RUN, STATS, SERVE] {
        for secret in ["hunter2", "hunter2\u{1b}[2J", "hunter2 = [x]\n"] {
            let said = refusal(command, secret).await;
            assert!(!said.contains("hunter2"), "{command:?}: {said}");
            assert!(said.contains("it may be the secret"), "{command:?}: {said}");
        }
        let said = refusal(command, "no/such/file").await;
        assert!(said.contains("no/such/file"), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn the_file_of_a_secret_is_shown_with_escapes() {
    let folder = std::env::temp_dir().join(format!("dflock-secret-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("a\u{1b}[2Jb\u{202e}");
    fs::write(&file, " \n").unwrap();
    let mut all = Vec::new();
    for command in [RUN, STATS, SERVE] {
        all.push(refusal(command, file.to_str().unwrap()).await);
    }
    fs::remove_dir_all(&folder).unwrap();
    for said in all {
        assert!(said.contains("a\\u{1b}[2Jb\\u{202e}"), "{said}");
        assert!(said.contains("no secret in it"), "{said}");
    }
}
