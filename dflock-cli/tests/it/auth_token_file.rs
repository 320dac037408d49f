//! `--auth-token-file`, also with the auth token itself in place of its file.

use std::fs;

use crate::process::{dflock, output_of, status, text};

const RUN: &[&str] = &["run", "--key", "job"];
const STATS: &[&str] = &["stats"];
const SERVE: &[&str] = &["serve", "--port", "0"];

/// Runs `command` with the invalid `file`, and returns its standard error.
async fn usage_error(command: &[&str], file: &str) -> String {
    let option = format!("--auth-token-file={file}");
    let rest: &[&str] = if command == RUN { &["true"] } else { &[] };
    let output = output_of(&mut dflock(&[command, &[&option], rest].concat())).await;
    let stderr = text(&output.stderr);
    assert_eq!(status(&output), 64, "{command:?} {file:?}: {stderr}");
    stderr.to_owned()
}

#[tokio::test]
async fn an_auth_token_in_place_of_its_file_is_not_shown() {
    for command in [RUN, STATS, SERVE] {
        for token in ["hunter2", "hunter2\u{1b}[2J", "hunter2 = [x]\n"] {
            let stderr = usage_error(command, token).await;
            assert!(!stderr.contains("hunter2"), "{command:?}: {stderr}");
            assert!(
                stderr.contains("it may be the token"),
                "{command:?}: {stderr}"
            );
        }
        let stderr = usage_error(command, "no/such/file").await;
        assert!(stderr.contains("no/such/file"), "{command:?}: {stderr}");
    }
}

#[tokio::test]
async fn the_path_of_an_auth_token_file_is_shown_with_escapes() {
    let folder = std::env::temp_dir().join(format!("dflock-auth-token-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("a\u{1b}[2Jb\u{202e}");
    fs::write(&file, " \n").unwrap();
    let mut errors = Vec::new();
    for command in [RUN, STATS, SERVE] {
        errors.push(usage_error(command, file.to_str().unwrap()).await);
    }
    fs::remove_dir_all(&folder).unwrap();
    for stderr in errors {
        assert!(stderr.contains("a\\u{1b}[2Jb\\u{202e}"), "{stderr}");
        assert!(stderr.contains("no auth token in it"), "{stderr}");
    }
}
