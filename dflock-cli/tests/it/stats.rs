//! Tests of `dflock stats`.

use dflock::server::Server;
use rustix::process::Signal;
use serde_json::Value;
use unicode_width::UnicodeWidthStr;

use crate::process::{Process, acquire, dflock, output, output_of, status, text};

#[tokio::test]
async fn the_table_shows_the_holders_of_each_key() {
    let server = Server::start().await.unwrap();
    let client = server.client();
    let held = acquire(&client, "pool", 5).await;
    let lock = client.lock("nightly").unwrap().acquire().await.unwrap();
    let output = output(&server, &["stats"]).await;
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with(&server.addr().to_string()), "{shown}");
    let words: Vec<Vec<_>> = shown
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(
        words
            .iter()
            .any(|line| line[..] == ["pool", "semaphore", "1/5", "■□□□□", "0"]),
        "{shown}"
    );
    assert!(
        words
            .iter()
            .any(|line| line.starts_with(&["nightly", "lock", "1/1", "■", "0", "lease", "left"])),
        "{shown}"
    );
    // No colors, because standard output is not a terminal.
    assert!(!shown.contains('\x1b'), "{shown}");
    drop((held, lock));
}

#[tokio::test]
async fn columns_are_aligned_and_hidden_characters_are_escaped() {
    let server = Server::start().await.unwrap();
    let client = server.client();
    let mut held = Vec::new();
    for (key, expected) in [
        ("plain", "plain"),
        // Wide characters.
        ("\u{65e5}\u{672c}", "\u{65e5}\u{672c}"),
        ("e\u{301}a\u{308}", "e\u{301}a\u{308}"),
        // A right-to-left override, and a zero-width space.
        ("pay\u{202e}001", "pay\\u{202e}001"),
        ("pay\u{200b}001", "pay\\u{200b}001"),
    ] {
        held.push(acquire(&client, key, 5).await);
        let output = output(&server, &["stats"]).await;
        let shown = text(&output.stdout);
        assert!(
            shown
                .lines()
                .any(|line| line.split_whitespace().next() == Some(expected)),
            "{expected}: {shown}"
        );
        let starts: Vec<_> = shown
            .lines()
            .filter_map(|line| Some(line.split_once("semaphore")?.0.width()))
            .collect();
        let kind = shown
            .lines()
            .nth(1)
            .unwrap()
            .split_once("KIND")
            .unwrap()
            .0
            .width();
        assert!(
            starts.len() == held.len() && starts.iter().all(|start| *start == kind),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn json_is_one_line_with_an_object_for_each_server() {
    let (one, two) = (
        Server::start().await.unwrap(),
        Server::start().await.unwrap(),
    );
    two.faults().refuse_connections(true);
    let _held = acquire(&one.client(), "pool", 5).await;
    let servers = format!("{},{}", one.addr(), two.addr());
    let output = output(&one, &["stats", "--json", "--servers", &servers]).await;
    // The failure of one server does not hide the other.
    assert_eq!(status(&output), 69);
    assert_eq!(text(&output.stdout).lines().count(), 1);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["server"], one.addr().to_string());
    assert_eq!(json[0]["stats"]["semaphores"][0]["holders"], 1);
    assert_eq!(json[1]["server"], two.addr().to_string());
    assert!(json[1]["error"].is_string(), "{json}");
}

#[tokio::test]
async fn watch_repeats_until_it_is_interrupted() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let mut watch = Process::spawn(&mut dflock(&[
        "stats",
        "--json",
        "--watch",
        "--interval",
        "10ms",
        "--servers",
        &addr,
    ]));
    for holders in [0, 1] {
        let held = if holders == 0 {
            None
        } else {
            Some(acquire(&server.client(), "pool", 5).await)
        };
        loop {
            let json: Value = serde_json::from_str(&watch.next_line().await.unwrap()).unwrap();
            if json[0]["stats"]["semaphores"].as_array().unwrap().len() == holders {
                break;
            }
        }
        drop(held);
    }
    watch.signal(Signal::INT);
    assert_eq!(watch.status().await, -1);
}

#[tokio::test]
async fn the_auth_token_file_is_read_once() {
    let (one, two) = (
        Server::builder().auth_token("hush").build(),
        Server::builder().auth_token("hush").build(),
    );
    let (one, two) = (one.start().await.unwrap(), two.start().await.unwrap());
    // A pipe can be read only once.
    let script = "echo hush | \"$0\" stats --json --auth-token-file /dev/stdin --servers \"$1\"";
    let mut command = tokio::process::Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_dflock")])
        .arg(format!("{},{}", one.addr(), two.addr()));
    let output = output_of(&mut command).await;
    assert_eq!(status(&output), 0, "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_new_auth_token_in_the_file_is_used() {
    let file = std::env::temp_dir().join(format!("dflock-cli-{}-rotated", std::process::id()));
    // With a byte order mark and CRLF, as Windows editors write it.
    std::fs::write(&file, "\u{feff}hush\r\n").unwrap();
    let server = Server::builder()
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    let servers = server.addr().to_string();
    let args = [
        "stats",
        "--json",
        "--watch",
        "--interval",
        "10ms",
        "--servers",
        &servers,
        "--auth-token-file",
    ];
    let mut watch = Process::spawn(&mut dflock(
        &[&args[..], &[file.to_str().unwrap()]].concat(),
    ));
    let json: Value = serde_json::from_str(&watch.next_line().await.unwrap()).unwrap();
    assert!(json[0]["stats"].is_object(), "{json}");

    server.shutdown().await;
    std::fs::write(&file, "hash").unwrap();
    let server = Server::builder()
        .bind(servers.as_str())
        .auth_token("hash")
        .build()
        .start()
        .await
        .unwrap();
    let _held = acquire(&server.client(), "pool", 5).await;
    loop {
        let json: Value = serde_json::from_str(&watch.next_line().await.unwrap()).unwrap();
        let error = json[0]["error"].as_str().unwrap_or_default();
        assert!(
            !error.contains("secret") && !error.contains("auth token"),
            "{json}"
        );
        // Earlier reports are from the old server, or from the time between the two servers.
        if json[0]["stats"]["semaphores"]
            .as_array()
            .is_some_and(|semaphores| !semaphores.is_empty())
        {
            break;
        }
    }
    std::fs::remove_file(&file).unwrap();
}
