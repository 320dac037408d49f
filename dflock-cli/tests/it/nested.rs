//! Tests of `dflock run` inside of `dflock run`.

use dflock::server::Server;
use rustix::process::Signal;

use crate::process::{DFLOCK, Process, acquire, dflock, output, status, text};

#[tokio::test]
async fn a_nested_run_that_waits_for_itself_prints_a_warning_immediately() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let run = ["run", "--servers", &addr, "--key"];
    let inner = format!("exec {DFLOCK} run --servers {addr} --key job echo ran 2>&1");
    for outer in [
        [&run[..], &["job"]].concat(),
        // With a run of another key between the two.
        [&run[..], &["job", DFLOCK], &run, &["other"]].concat(),
    ] {
        let mut waiting =
            Process::spawn(&mut dflock(&[&outer[..], &["sh", "-c", &inner]].concat()));
        let stderr = waiting.next_line().await.unwrap();
        assert!(
            stderr.contains("\"job\"") && stderr.contains("waits for itself"),
            "{stderr}"
        );
        assert!(
            server
                .stats()
                .semaphores
                .iter()
                .any(|semaphore| semaphore.key == "job" && semaphore.waiters == 1)
        );
        waiting.signal(Signal::TERM);
        assert_eq!(waiting.status().await, 143);
        assert_eq!(waiting.wait_for_eof().await, "");
    }
}

#[tokio::test]
async fn a_nested_run_that_waits_for_another_prints_no_warning() {
    let server = Server::start().await.unwrap();
    let _held = acquire(&server.client(), "other", 1).await;
    for (limit, key, expected) in [("2", "job", 0), ("1", "other", 75)] {
        let inner = [
            DFLOCK,
            "run",
            "--key",
            key,
            "--limit",
            limit,
            "--timeout",
            "300ms",
        ];
        let servers = server.addr().to_string();
        let args = [
            &["run", "--key", "job", "--limit", "2"],
            &inner[..],
            &["--servers", &servers, "true"],
        ]
        .concat();
        let output = output(&server, &args).await;
        assert_eq!(status(&output), expected, "{}", text(&output.stderr));
        assert!(
            !text(&output.stderr).contains("itself"),
            "{}",
            text(&output.stderr)
        );
    }
}
