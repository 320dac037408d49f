//! Signals that come to `dflock run`.

use std::process::Stdio;

use dflock::server::Server;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::Signal;
use tokio::process::Command;

use crate::program::{Run, dflock, done, is_free, status, text};
#[cfg(target_os = "linux")]
use {
    crate::program::{PATIENCE, children_of, pid},
    rustix::process::{Pid, kill_process},
    std::time::Duration,
    tokio::time::timeout,
};

#[tokio::test]
async fn signals_are_passed_on() {
    let server = Server::start().await.unwrap();
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::TERM, "TERM"),
    ] {
        let script =
            format!("trap 'echo {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done");
        let mut run = Run::start(&server.addr().to_string(), &[], &script).await;
        run.signal(signal);
        assert_eq!(run.line().await.as_deref(), Some(name));
        assert_eq!(run.status().await, 7, "{name}");
        is_free(&server.client()).await;
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_gives_its_slot_back() {
    let server = Server::start().await.unwrap();
    for (signal, want) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut run =
            Run::start(&server.addr().to_string(), &[], "echo ready; exec sleep 60").await;
        let began = std::time::Instant::now();
        run.signal(signal);
        is_free(&server.client()).await;
        println!("signal {signal:?}: free after {:?}", began.elapsed());
        assert_eq!(run.status().await, want);
        run.silence().await;
    }
}

#[tokio::test]
async fn all_that_the_command_has_started_hear_a_signal() {
    let server = Server::start().await.unwrap();
    // the outer shell waits for the inner one, and is asked for nothing
    let script = "trap : USR1; sh -c 'trap \"echo inner; exit 5\" USR1; echo ready; while :; do sleep 0.02; done'";
    let mut run = Run::start(&server.addr().to_string(), &[], script).await;
    run.signal(Signal::USR1);
    assert_eq!(run.line().await.as_deref(), Some("inner"));
    run.silence().await;
}

#[tokio::test]
async fn a_signal_while_in_line_leaves_the_line() {
    let server = Server::start().await.unwrap();
    let held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let mut run = Run::of(&mut dflock(&[
        "run",
        "--servers",
        &server.addr().to_string(),
        "--key",
        "job",
        "echo",
        "ran",
    ]));
    let waiters = || {
        server
            .stats()
            .semaphores
            .iter()
            .map(|semaphore| semaphore.waiters)
            .sum::<u64>()
    };
    while waiters() == 0 {
        tokio::task::yield_now().await;
    }
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
    assert_eq!(run.silence().await, "");
    while waiters() > 0 {
        tokio::task::yield_now().await;
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn what_was_ignored_stays_ignored() {
    let server = Server::start().await.unwrap();
    // as `nohup` does
    let script = "trap '' HUP; exec \"$0\" run --servers \"$1\" --key job sh -c 'kill -HUP $$; echo ready; kill -HUP $PPID; exec sleep 60'";
    let mut command = dflock(&[]);
    let program = command.as_std().get_program().to_owned();
    command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(program)
        .arg(server.addr().to_string());
    command
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut run = Run::of(&mut command);
    assert_eq!(run.line().await.as_deref(), Some("ready"));
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

/// Returns a shell script with `dflock` as `$0` and `args` behind it. Only some shells can ignore
/// SIGCHLD.
fn script(script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_dflock")])
        .args(args);
    command.process_group(0).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Starts `command` with SIGTERM and SIGUSR1 blocked.
fn start_with_blocked_signals(command: &mut Command) -> Run {
    let blocked: SigSet = [NixSignal::SIGTERM, NixSignal::SIGUSR1]
        .into_iter()
        .collect();
    blocked.thread_block().unwrap();
    let run = Run::of(command);
    blocked.thread_unblock().unwrap();
    run
}

#[tokio::test]
async fn a_parent_that_ignores_sigchld_gets_the_status_all_the_same() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    for (end, want) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
        let run = ["run", "--servers", &addr, "--key", "job", "sh", "-c", end];
        let output = done(&mut script("trap '' CHLD; exec \"$0\" \"$@\"", &run)).await;
        assert_eq!((status(&output), text(&output.stderr)), (want, ""), "{end}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_gets_the_dispositions_and_the_mask_of_the_parent() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let run = [
        &[
            env!("CARGO_BIN_EXE_dflock"),
            "run",
            "--servers",
            &addr,
            "--key",
            "job",
        ],
        &show[..],
    ]
    .concat();
    let ignore = "trap '' CHLD HUP USR2 TTOU; exec \"$@\"";
    let mut shown = Vec::new();
    for command in [&show[..], &run] {
        shown.push(
            start_with_blocked_signals(&mut script(ignore, command))
                .silence()
                .await,
        );
    }
    assert!(
        shown[0].starts_with("SigBlk:\t0000000000004200\nSigIgn:\t"),
        "{}",
        shown[0]
    );
    // where this is run others may be ignored as well: CHLD, HUP, USR2 and TTOU are
    let ignored =
        u64::from_str_radix(shown[0].trim_end().rsplit_once('\t').unwrap().1, 16).unwrap();
    assert_eq!(ignored & 0x21_0801, 0x21_0801, "{}", shown[0]);
    assert_eq!(shown[1], shown[0]);
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_ends_the_wait() {
    let server = Server::start().await.unwrap();
    let _held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let addr = server.addr().to_string();
    let mut run = start_with_blocked_signals(&mut dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "echo",
        "ran",
    ]));
    while server
        .stats()
        .semaphores
        .iter()
        .all(|semaphore| semaphore.waiters == 0)
    {
        tokio::task::yield_now().await;
    }
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_is_passed_on() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let mut run = start_with_blocked_signals(&mut dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "sleep",
        "4242",
    ]));
    let sleep = async {
        loop {
            let children = children_of(pid(&run.dflock)).into_iter();
            let name = |pid: &Pid| {
                std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero()))
                    .unwrap_or_default()
            };
            if let Some(sleep) = children.into_iter().find(|pid| name(pid) == "sleep\n") {
                return sleep;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let sleep = timeout(PATIENCE, sleep).await.expect("the command begins");
    run.signal(Signal::TERM);
    // it is blocked for the command, too, and stays pending
    let arrived = async {
        while !std::fs::read_to_string(format!("/proc/{}/status", sleep.as_raw_nonzero()))
            .unwrap()
            .contains("ShdPnd:\t0000000000004000")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("SIGTERM arrives");
    kill_process(sleep, Signal::KILL).unwrap();
    assert_eq!(run.status().await, 137);
}
