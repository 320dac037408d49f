//! Termination of the command when the slot is lost.

#[cfg(target_os = "linux")]
use std::process::Stdio;
use std::time::{Duration, Instant};

use dflock::server::Server;
use rustix::process::{Signal, kill_process};

#[cfg(target_os = "linux")]
use crate::process::{PID_1, is_allowed, run_as_pid_1, wait_until_gone};
use crate::process::{Process, dflock};

/// A short lease: `dflock` detects at the next renewal that the server has freed the slot.
const LEASE: [&str; 2] = ["--lease", "3s"];

#[tokio::test]
async fn the_command_gets_sigterm_and_the_status_is_76() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Process::run_script(server.addr(), &LEASE, script).await;
    server.faults().expire("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}

#[tokio::test]
async fn the_command_is_terminated_at_the_end_of_max_hold() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let began = Instant::now();
    let args = ["--max-hold", "700ms"];
    let mut run = Process::run_script(server.addr(), &args, script).await;
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert!(began.elapsed().as_millis() >= 700);
    assert_eq!(run.status().await, 76);
}

#[tokio::test]
async fn the_slot_stays_taken_after_a_short_command_until_the_end_of_min_hold() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let began = Instant::now();
    let args = ["--min-hold", "600ms"];
    let mut run = Process::run_script(&addr, &args, "echo ready; exit 3").await;
    let mut next = Process::run_script(&addr, &[], "echo ready").await;
    assert!(began.elapsed().as_millis() >= 600);
    assert_eq!(run.status().await, 3);
    assert_eq!(next.status().await, 0);

    // A signal ends the wait. One that arrives before the command has ended is ignored by it.
    let args = ["--min-hold", "1h"];
    let mut run = Process::run_script(&addr, &args, "trap '' TERM; echo ready; exit 4").await;
    let status = loop {
        run.signal(Signal::TERM);
        let status = tokio::time::timeout(Duration::from_millis(50), run.status()).await;
        if let Ok(status) = status {
            break status;
        }
    };
    assert_eq!(status, 4);
}

#[tokio::test]
async fn a_command_that_ignores_sigterm_is_killed_after_the_grace_time() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Process::run_script(server.addr(), &["--grace", "500ms"], script).await;
    let began = Instant::now();
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("no"));
    assert_eq!(run.status().await, 76);
    assert!(began.elapsed().as_millis() >= 500);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn without_a_grace_time_the_command_is_killed_immediately() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Process::run_script(server.addr(), &["--grace", "0"], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    assert_eq!(run.wait_for_eof().await, "");
}

#[tokio::test]
async fn descendants_of_the_command_are_killed_after_the_grace_time() {
    let server = Server::start().await.unwrap();
    // The outer shell ends at SIGTERM; the inner one ignores it.
    let script = "sh -c 'trap \"\" TERM; echo ready; sleep 60; :'; :";
    let mut run = Process::run_script(server.addr(), &["--grace", "300ms"], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn descendants_of_the_command_may_clean_up_in_the_grace_time() {
    let server = Server::start().await.unwrap();
    let script = "sh -c 'trap \"sleep 0.3; echo in order; exit\" TERM; echo ready; \
                  while :; do sleep 0.02; done'; :";
    let mut run = Process::run_script(server.addr(), &[], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    assert_eq!(run.wait_for_eof().await, "in order\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_watchdog_kills_the_command_of_a_stopped_dflock() {
    let server = Server::start().await.unwrap();
    let args = ["--lease", "2s", "--grace", "0"];
    // The command stops `dflock`, the parent of the watchdog, as early as possible.
    let script = "read -r _ _ _ dflock _ < /proc/$PPID/stat; kill -STOP $dflock; echo ready; \
                  echo $$; exec sleep 60";
    let mut run = Process::run_script(server.addr(), &args, script).await;
    let command = run.next_line().await.unwrap();
    wait_until_gone(&command).await;
    run.signal(Signal::CONT);
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn a_stopped_command_is_continued_and_terminated() {
    let server = Server::start().await.unwrap();
    let script =
        "trap 'echo ending; exit 0' TERM; echo ready; echo $$; while :; do sleep 0.02; done";
    let mut run = Process::run_script(server.addr(), &[], script).await;
    let command = run.next_pid().await;
    kill_process(command, Signal::STOP).unwrap();
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}

#[tokio::test]
async fn the_slot_is_lost_when_the_server_stops() {
    let server = Server::start().await.unwrap();
    let mut run = Process::run_script(server.addr(), &[], "echo ready; exec sleep 60").await;
    drop(server);
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn a_short_read_timeout_of_the_server_is_kept_when_it_is_given() {
    let mut serve = Process::spawn(&mut dflock(&[
        "serve",
        "--port",
        "0",
        "--read-timeout",
        "3s",
    ]));
    let addr = serve.next_line().await.unwrap();
    let mut run = Process::run_script(
        &addr,
        &["--server-read-timeout", "3s"],
        "echo ready; sleep 5; echo still alone",
    )
    .await;
    assert_eq!(run.next_line().await.as_deref(), Some("still alone"));
    assert_eq!(run.status().await, 0);
}

/// The session of `dflock` is outside of its PID namespace, as when a process outside of a
/// container starts it inside.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_is_terminated_in_a_pid_namespace_without_the_session() {
    if !is_allowed(&PID_1, &["true"]).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run =
        Process::spawn_ready(run_as_pid_1(server.addr(), script).stderr(Stdio::null())).await;
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}
