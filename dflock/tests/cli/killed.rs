//! SIGKILL: of `dflock`, of the command, of the server.

use std::process::Stdio;
use std::time::Instant;

use dflock::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::program::{Run, dflock, is_free, pid};

#[tokio::test]
async fn with_dflock_dies_all_that_it_runs_and_the_slot_is_free() {
    let server = Server::start().await.unwrap();
    let mut run = Run::start(
        &server.addr().to_string(),
        &[],
        "sh -c 'echo ready; sleep 60; :'; :",
    )
    .await;
    let began = Instant::now();
    run.signal(Signal::KILL);
    is_free(&server.client()).await;
    println!("SIGKILL of dflock: free after {:?}", began.elapsed());
    assert_eq!(run.status().await, -1);
    run.silence().await;
    println!("SIGKILL of dflock: all ended after {:?}", began.elapsed());
}

#[tokio::test]
async fn the_guard_outlives_the_signals_that_are_passed_on() {
    let server = Server::start().await.unwrap();
    let script = "trap : TERM; sh -c 'trap \"echo heard\" TERM; echo ready; while :; do sleep 0.02; done'; :";
    let mut run = Run::start(&server.addr().to_string(), &[], script).await;
    run.signal(Signal::TERM);
    assert_eq!(run.line().await.as_deref(), Some("heard"));
    run.signal(Signal::KILL);
    run.silence().await;
}

#[tokio::test]
async fn the_guard_outlives_what_the_command_sends_its_group() {
    let server = Server::start().await.unwrap();
    let script = "trap : ALRM WINCH TSTP; sh -c 'trap \"\" ALRM WINCH TSTP; kill -ALRM 0; kill -WINCH 0; kill -TSTP 0; echo ready; sleep 60; :'; :";
    let run = Run::start(&server.addr().to_string(), &[], script).await;
    run.signal(Signal::KILL);
    run.silence().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_dies_with_dflock_when_the_guard_is_gone_too() {
    let server = Server::start().await.unwrap();
    let mut run = Run::start(
        &server.addr().to_string(),
        &[],
        "echo ready; echo $$; exec sleep 60",
    )
    .await;
    let command: i32 = run.line().await.unwrap().parse().unwrap();
    let dflock = pid(&run.dflock).as_raw_nonzero();
    let children =
        std::fs::read_to_string(format!("/proc/{dflock}/task/{dflock}/children")).unwrap();
    let guards: Vec<i32> = children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .filter(|pid| *pid != command)
        .collect();
    assert_eq!(guards.len(), 1, "{children}");
    // else it would notice the end of the guard, and end the command itself
    run.signal(Signal::STOP);
    kill_process(Pid::from_raw(guards[0]).unwrap(), Signal::KILL).unwrap();
    run.signal(Signal::KILL);
    assert_eq!(run.status().await, -1);
    run.silence().await;
}

#[tokio::test]
async fn a_command_that_is_killed_gives_its_slot_back() {
    let server = Server::start().await.unwrap();
    let mut run = Run::start(
        &server.addr().to_string(),
        &[],
        "echo ready; echo $$; exec sleep 60",
    )
    .await;
    let command = run
        .line()
        .await
        .unwrap()
        .parse()
        .ok()
        .and_then(Pid::from_raw)
        .unwrap();
    let began = Instant::now();
    kill_process(command, Signal::KILL).unwrap();
    is_free(&server.client()).await;
    println!("SIGKILL of the command: free after {:?}", began.elapsed());
    assert_eq!(run.status().await, 137);
}

#[tokio::test]
async fn when_the_server_is_killed_the_command_ends() {
    let mut server = Run::of(&mut dflock(&["serve", "--port", "0"]));
    let addr = server.line().await.unwrap();
    let mut run = Run::start(&addr, &[], "echo ready; exec sleep 60").await;
    let began = Instant::now();
    server.signal(Signal::KILL);
    assert_eq!(run.status().await, 76);
    println!("SIGKILL of the server: ended after {:?}", began.elapsed());
    run.silence().await;
}

#[tokio::test]
async fn what_a_command_leaves_behind_at_its_own_end_is_left_alone() {
    let server = Server::start().await.unwrap();
    let script = "exec 3<&0; (cat <&3; echo still here) & echo ready";
    let addr = server.addr().to_string();
    let mut command = dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "sh",
        "-c",
        script,
    ]);
    let mut run = Run::of(command.stdin(Stdio::piped()));
    let mut stdin = run.dflock.stdin.take().unwrap();
    assert_eq!(run.line().await.as_deref(), Some("ready"));
    assert_eq!(run.status().await, 0);
    is_free(&server.client()).await;
    stdin.shutdown().await.unwrap();
    drop(stdin);
    assert_eq!(run.silence().await, "still here\n");
}
