//! `dflock` as PID 1 of a container, and without a mounted `/proc`.

use std::process::Stdio;
use std::time::Duration;

use dflock::server::Server;
use dflock_tests::skip;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::timeout;

use crate::process::{Process, TIMEOUT, children_of, output_of, pid, status, text};

const PID_1: [&str; 6] = [
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];
const NO_PROC: [&str; 3] = ["--user", "--map-root-user", "--mount"];
const HIDE_PROC: &str = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";

/// Returns a command that runs `command` in new namespaces.
fn unshare(flags: &[&str], command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare
        .args(flags)
        .args(command)
        .process_group(0)
        .kill_on_drop(true);
    unshare
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    unshare
}

/// Returns whether this system allows the namespaces. If not, reports that the test is skipped.
async fn is_allowed(flags: &[&str], command: &[&str]) -> bool {
    let allowed = unshare(flags, command)
        .output()
        .await
        .is_ok_and(|output| output.status.success());
    if !allowed {
        skip(&format!(
            "this system does not allow `unshare {}`",
            flags.join(" ")
        ));
    }
    allowed
}

/// Waits until a process has exactly one child, and returns it.
async fn child_of(parent: Pid) -> Pid {
    let child = async {
        loop {
            if let [child] = children_of(parent)[..] {
                return child;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, child)
        .await
        .expect("the process has one child")
}

/// Waits until a process has no children.
async fn wait_until_childless(parent: Pid) {
    let none = async {
        while !children_of(parent).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, none)
        .await
        .expect("the children are reaped");
}

#[tokio::test]
async fn pid_1_reaps_orphans_while_the_command_runs() {
    if !is_allowed(&PID_1, &["true"]).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
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
    let output = output_of(&mut unshare(&PID_1, &args)).await;
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
    let _held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let addr = server.addr().to_string();
    for (command, expected) in [
        (
            &["run", "--servers", &addr, "--key", "job", "true"][..],
            143,
        ),
        (&["serve", "--port", "0"], 0),
        (&["stats", "--json", "--watch", "--servers", &addr], 143),
    ] {
        // The shell becomes `dflock` after its background child has lost its own parent.
        let script = "(sleep 4242 <&- >&- 2>&- &); exec \"$0\" \"$@\"";
        let args = [&["sh", "-c", script, env!("CARGO_BIN_EXE_dflock")], command].concat();
        let mut run = Process::spawn(&mut unshare(&PID_1, &args));
        match command[0] {
            "run" => {
                while server
                    .stats()
                    .semaphores
                    .iter()
                    .all(|semaphore| semaphore.waiters == 0)
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
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
    let addr = server.addr().to_string();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
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
    let mut run = Process::spawn(&mut unshare(&PID_1, &args));
    assert_eq!(run.next_line().await.as_deref(), Some("ready"));
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
    let run = [
        "sh",
        "-c",
        HIDE_PROC,
        env!("CARGO_BIN_EXE_dflock"),
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
    ];
    let output = output_of(&mut unshare(
        &NO_PROC,
        &[&run[..], &["sh", "-c", "ls /proc; exit 3"]].concat(),
    ))
    .await;
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
    let mut run = Process::spawn(
        unshare(&NO_PROC, &[&run[..], &["sh", "-c", script]].concat()).stderr(Stdio::null()),
    );
    assert_eq!(run.next_line().await.as_deref(), Some("ready"));
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}
