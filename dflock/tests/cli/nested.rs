//! `dflock run` inside of `dflock run`.

use dflock::server::Server;
use rustix::process::Signal;

use crate::program::{Run, dflock, output, status, text};

const DFLOCK: &str = env!("CARGO_BIN_EXE_dflock");

#[tokio::test]
async fn a_run_that_waits_for_itself_says_so_at_once() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let run = ["run", "--servers", &addr, "--key"];
    let inner = format!("exec {DFLOCK} run --servers {addr} --key job echo ran 2>&1");
    for outer in [
        [&run[..], &["job"]].concat(),
        // another key between the two
        [&run[..], &["job", DFLOCK], &run, &["other"]].concat(),
    ] {
        let mut waiting = Run::of(&mut dflock(&[&outer[..], &["sh", "-c", &inner]].concat()));
        let said = waiting.line().await.unwrap();
        assert!(
            said.contains("\"job\"") && said.contains("waits for itself"),
            "{said}"
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
        assert_eq!(waiting.silence().await, "");
    }
}

#[tokio::test]
async fn a_run_that_waits_for_another_says_nothing() {
    let server = Server::start().await.unwrap();
    let _held = server
        .client()
        .semaphore("other", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    for (limit, key, want) in [("2", "job", 0), ("1", "other", 75)] {
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
        assert_eq!(status(&output), want, "{}", text(&output.stderr));
        assert!(
            !text(&output.stderr).contains("itself"),
            "{}",
            text(&output.stderr)
        );
    }
}
