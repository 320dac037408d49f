//! A slot that is lost ends the command.

#[cfg(target_os = "linux")]
use std::process::Stdio;
use std::time::Instant;

use dflock::server::Server;
use rustix::process::{Pid, Signal, kill_process};
#[cfg(target_os = "linux")]
use tokio::process::Command;

#[cfg(target_os = "linux")]
use crate::program::is_gone;
use crate::program::{Run, dflock};
#[cfg(target_os = "linux")]
use crate::skipped::skip;

/// The server gives the slot away; with a lease of 3 s that is known at the next renewal.
const LEASE: [&str; 2] = ["--lease", "3s"];

#[tokio::test]
async fn the_command_is_asked_to_end_and_the_status_is_76() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Run::start(&server.addr().to_string(), &LEASE, script).await;
    server.faults().expire("job");
    assert_eq!(run.line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_after_the_grace_time() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Run::start(&server.addr().to_string(), &["--grace", "500ms"], script).await;
    let began = Instant::now();
    server.faults().disconnect("job");
    assert_eq!(run.line().await.as_deref(), Some("no"));
    assert_eq!(run.status().await, 76);
    assert!(began.elapsed().as_millis() >= 500);
    run.silence().await;
}

#[tokio::test]
async fn without_a_grace_time_it_is_killed_at_once() {
    let server = Server::start().await.unwrap();
    let script = "trap 'echo no' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Run::start(&server.addr().to_string(), &["--grace", "0"], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    assert_eq!(run.silence().await, "");
}

#[tokio::test]
async fn what_the_command_has_started_ends_with_it() {
    let server = Server::start().await.unwrap();
    // the shell ends at SIGTERM; the one within takes no notice
    let script = "sh -c 'trap \"\" TERM; echo ready; sleep 60; :'; :";
    let mut run = Run::start(&server.addr().to_string(), &["--grace", "300ms"], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    run.silence().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_the_command_has_started_may_end_in_order() {
    let server = Server::start().await.unwrap();
    let script = "sh -c 'trap \"sleep 0.3; echo in order; exit\" TERM; echo ready; while :; do sleep 0.02; done'; :";
    let mut run = Run::start(&server.addr().to_string(), &[], script).await;
    server.faults().disconnect("job");
    assert_eq!(run.status().await, 76);
    assert_eq!(run.silence().await, "in order\n");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn when_dflock_is_stopped_the_command_ends_with_the_slot() {
    let server = Server::start().await.unwrap();
    let args = ["--lease", "2s", "--grace", "0"];
    // as early as can be
    let script = "kill -STOP $PPID; echo ready; echo $$; exec sleep 60";
    let mut run = Run::start(&server.addr().to_string(), &args, script).await;
    let command = run.line().await.unwrap();
    is_gone(&command).await;
    run.signal(Signal::CONT);
    assert_eq!(run.status().await, 76);
    run.silence().await;
}

#[tokio::test]
async fn a_command_that_is_stopped_is_ended_too() {
    let server = Server::start().await.unwrap();
    let script =
        "trap 'echo ending; exit 0' TERM; echo ready; echo $$; while :; do sleep 0.02; done";
    let mut run = Run::start(&server.addr().to_string(), &[], script).await;
    let command = run
        .line()
        .await
        .unwrap()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .unwrap();
    kill_process(command, Signal::STOP).unwrap();
    server.faults().disconnect("job");
    assert_eq!(run.line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}

#[tokio::test]
async fn a_server_that_stops_takes_the_slot_with_it() {
    let server = Server::start().await.unwrap();
    let mut run = Run::start(&server.addr().to_string(), &[], "echo ready; exec sleep 60").await;
    drop(server);
    assert_eq!(run.status().await, 76);
    run.silence().await;
}

#[tokio::test]
async fn a_short_read_timeout_is_kept_up_with_when_it_is_told() {
    let mut serve = Run::of(&mut dflock(&[
        "serve",
        "--port",
        "0",
        "--read-timeout",
        "3s",
    ]));
    let addr = serve.line().await.unwrap();
    let mut run = Run::start(
        &addr,
        &["--server-read-timeout", "3s"],
        "echo ready; sleep 5; echo still alone",
    )
    .await;
    assert_eq!(run.line().await.as_deref(), Some("still alone"));
    assert_eq!(run.status().await, 0);
}

/// As in a container that something outside has put `dflock` into: its session has no number there.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn in_a_namespace_that_its_session_is_not_of_the_command_ends_too() {
    let into = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let unshare = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare
            .args(into)
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        unshare
    };
    if !unshare(&["true"])
        .status()
        .await
        .is_ok_and(|status| status.success())
    {
        return skip("this system allows no user namespace (`unshare --user`)");
    }
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let args = [
        env!("CARGO_BIN_EXE_dflock"),
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "sh",
        "-c",
        script,
    ];
    let mut run = Run::of(&mut unshare(&args));
    assert_eq!(run.line().await.as_deref(), Some("ready"));
    server.faults().disconnect("job");
    assert_eq!(run.line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
}
