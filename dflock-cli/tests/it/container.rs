//! `dflock` as PID 1 of a container, and without a mounted `/proc`.

use std::process::Stdio;

use dflock::server::Server;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{
    DFLOCK, PID_1, Process, children_of, hold, is_allowed, output_of, pid, run_args, run_as_pid_1,
    status, text, unshare, wait_for, wait_for_waiters,
};

const NO_PROC: [&str; 3] = ["--user", "--map-root-user", "--mount"];
const HIDE_PROC: &str = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";

/// Waits until a process has exactly one child, and returns it.
async fn child_of(parent: Pid) -> Pid {
    let child = || <[Pid; 1]>::try_from(children_of(parent)).ok();
    let [child] = wait_for("only child", child).await;
    child
}

/// Waits until a process has no children.
async fn wait_until_childless(parent: Pid) {
    let is_childless = || children_of(parent).is_empty().then_some(());
    wait_for("end of the children", is_childless).await;
}

#[tokio::test]
async fn pid_1_reaps_orphans_while_the_command_runs() {
    if !is_allowed(&PID_1, &["true"]).await {
        return;
    }
    let server = Server::start().await.unwrap();
    // Each orphan prints its pid and loses its parent. A zombie keeps its directory in `/proc`.
    let script = "orphans=$(for n in 1 2 3 4 5 6 7 8; do (sh -c 'echo $$' &); done)
        for orphan in $orphans; do
            tries=0
            while [ -e /proc/$orphan ] && [ $tries -lt 100 ]; do
                sleep 0.01; tries=$((tries + 1))
            done
            [ ! -e /proc/$orphan ] && echo reaped
        done
        exit 3";
    let output = output_of(&mut run_as_pid_1(server.addr(), script)).await;
    assert_eq!(
        (status(&output), text(&output.stdout).lines().count()),
        (3, 8),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn pid_1_reaps_orphans_during_the_wait_and_ends_at_sigterm() {
    if !is_allowed(&PID_1, &["true"]).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let _held = hold(&server).await;
    let addr = server.addr().to_string();
    for (command, expected) in [
        (&run_args(&addr, &["true"])[..], 143),
        (&["serve", "--port", "0"], 0),
        (&["stats", "--json", "--watch", "--servers", &addr], 143),
    ] {
        // The shell becomes `dflock` after its background child has lost its own parent.
        let script = "(sleep 4242 <&- >&- 2>&- &); exec \"$0\" \"$@\"";
        let args = [&["sh", "-c", script, DFLOCK], command].concat();
        let mut run = Process::spawn(&mut unshare(&PID_1, &args));
        match command[0] {
            "run" => {
                wait_for_waiters(&server, 1).await;
            }
            _ => drop(run.next_line().await.unwrap()),
        }
        let dflock = child_of(pid(&run.dflock)).await;
        kill_process(child_of(dflock).await, Signal::KILL).unwrap();
        if command[0] != "stats" {
            wait_until_childless(dflock).await;
        }
        kill_process(dflock, Signal::TERM).unwrap();
        assert_eq!(run.status().await, expected, "{command:?}");
    }
}

#[tokio::test]
async fn pid_1_forwards_sigterm() {
    if !is_allowed(&PID_1, &["true"]).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = Process::spawn_ready(&mut run_as_pid_1(server.addr(), script)).await;
    kill_process(child_of(pid(&run.dflock)).await, Signal::TERM).unwrap();
    assert_eq!(run.status().await, 7);
}

#[tokio::test]
async fn without_proc_the_command_runs_and_is_terminated_when_the_slot_is_lost() {
    let hide = |command: &[&'static str]| [&["sh", "-c", HIDE_PROC], command].concat();
    if !is_allowed(&NO_PROC, &hide(&["true"])).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let run = |command: &[&'static str]| {
        let run = [&[DFLOCK][..], &run_args(&addr, command)].concat();
        unshare(&NO_PROC, &[&["sh", "-c", HIDE_PROC], &run[..]].concat())
    };
    let output = output_of(&mut run(&["sh", "-c", "ls /proc; exit 3"])).await;
    assert_eq!(
        (status(&output), text(&output.stdout)),
        (3, ""),
        "{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("/proc"),
        "{}",
        text(&output.stderr)
    );

    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut command = run(&["sh", "-c", script]);
    let mut run = Process::spawn_ready(command.stderr(Stdio::null())).await;
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}
