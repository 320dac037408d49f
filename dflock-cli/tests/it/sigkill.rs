//! SIGKILL of `dflock`, of the command, and of the server.

use std::process::Stdio;
use std::time::Instant;

use dflock::server::Server;
use rustix::process::{Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::process::{Process, dflock, run, wait_until_free};
#[cfg(target_os = "linux")]
use crate::process::{children_of, pid};

#[tokio::test]
async fn killing_dflock_kills_the_command_and_its_descendants_and_frees_the_slot() {
    let server = Server::start().await.unwrap();
    let mut run =
        Process::run_script(server.addr(), &[], "sh -c 'echo ready; sleep 60; :'; :").await;
    let began = Instant::now();
    run.signal(Signal::KILL);
    wait_until_free(&server.client()).await;
    println!("SIGKILL of dflock: free after {:?}", began.elapsed());
    assert_eq!(run.status().await, -1);
    run.wait_for_eof().await;
    println!("SIGKILL of dflock: all ended after {:?}", began.elapsed());
}

#[tokio::test]
async fn the_watchdog_survives_forwarded_signals() {
    let server = Server::start().await.unwrap();
    let script = "trap : TERM; sh -c 'trap \"echo received\" TERM; echo ready; \
                  while :; do sleep 0.02; done'; :";
    let mut run = Process::run_script(server.addr(), &[], script).await;
    run.signal(Signal::TERM);
    assert_eq!(run.next_line().await.as_deref(), Some("received"));
    run.signal(Signal::KILL);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn the_watchdog_survives_signals_that_the_command_sends_to_its_group() {
    let server = Server::start().await.unwrap();
    let script = "trap : ALRM WINCH TSTP; sh -c 'trap \"\" ALRM WINCH TSTP; kill -ALRM 0; \
                  kill -WINCH 0; kill -TSTP 0; echo ready; sleep 60; :'; :";
    let run = Process::run_script(server.addr(), &[], script).await;
    run.signal(Signal::KILL);
    run.wait_for_eof().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_is_killed_with_dflock_without_the_watchdog() {
    let server = Server::start().await.unwrap();
    let mut run =
        Process::run_script(server.addr(), &[], "echo ready; echo $$; exec sleep 60").await;
    let command = run.next_pid().await;
    let mut watchdogs = children_of(pid(&run.dflock));
    watchdogs.retain(|pid| *pid != command);
    assert_eq!(watchdogs.len(), 1, "{watchdogs:?}");
    // Stopped, so that it does not notice the end of the watchdog and terminate the command itself.
    run.signal(Signal::STOP);
    kill_process(watchdogs[0], Signal::KILL).unwrap();
    run.signal(Signal::KILL);
    assert_eq!(run.status().await, -1);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn killing_the_command_releases_the_slot() {
    let server = Server::start().await.unwrap();
    let mut run =
        Process::run_script(server.addr(), &[], "echo ready; echo $$; exec sleep 60").await;
    let command = run.next_pid().await;
    let began = Instant::now();
    kill_process(command, Signal::KILL).unwrap();
    wait_until_free(&server.client()).await;
    println!("SIGKILL of the command: free after {:?}", began.elapsed());
    assert_eq!(run.status().await, 137);
}

#[tokio::test]
async fn killing_the_server_terminates_the_command() {
    let mut server = Process::spawn(&mut dflock(&["serve", "--port", "0"]));
    let addr = server.next_line().await.unwrap();
    let mut run = Process::run_script(&addr, &[], "echo ready; exec sleep 60").await;
    let began = Instant::now();
    server.signal(Signal::KILL);
    assert_eq!(run.status().await, 76);
    println!("SIGKILL of the server: ended after {:?}", began.elapsed());
    run.wait_for_eof().await;
}

#[tokio::test]
async fn processes_that_a_command_leaves_behind_keep_running() {
    let server = Server::start().await.unwrap();
    let script = "exec 3<&0; (cat <&3; echo still here) & echo ready";
    let mut command = run(server.addr(), &["sh", "-c", script]);
    let mut run = Process::spawn_ready(command.stdin(Stdio::piped())).await;
    let mut stdin = run.dflock.stdin.take().unwrap();
    assert_eq!(run.status().await, 0);
    wait_until_free(&server.client()).await;
    stdin.shutdown().await.unwrap();
    drop(stdin);
    assert_eq!(run.wait_for_eof().await, "still here\n");
}
