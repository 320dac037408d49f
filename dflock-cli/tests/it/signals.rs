//! Signals that `dflock run` receives.

use dflock::server::Server;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use rustix::process::Signal;
use tokio::process::Command;

use crate::process::{
    DFLOCK, Process, hold, output_of, program, run, run_args, status, text, wait_for_waiters,
    wait_until_free,
};
#[cfg(target_os = "linux")]
use {
    crate::process::{children_of, pid, wait_for},
    rustix::process::{Pid, kill_process},
};

#[tokio::test]
async fn signals_are_forwarded() {
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
        let mut run = Process::run_script(server.addr(), &[], &script).await;
        run.signal(signal);
        assert_eq!(run.next_line().await.as_deref(), Some(name));
        assert_eq!(run.status().await, 7, "{name}");
        wait_until_free(&server.client()).await;
    }
}

#[tokio::test]
async fn a_command_that_a_signal_ends_releases_its_slot() {
    let server = Server::start().await.unwrap();
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut run = Process::run_script(server.addr(), &[], "echo ready; exec sleep 60").await;
        let began = std::time::Instant::now();
        run.signal(signal);
        wait_until_free(&server.client()).await;
        println!("signal {signal:?}: free after {:?}", began.elapsed());
        assert_eq!(run.status().await, expected);
        run.wait_for_eof().await;
    }
}

#[tokio::test]
async fn descendants_of_the_command_get_forwarded_signals() {
    let server = Server::start().await.unwrap();
    // The outer shell handles the signal and keeps waiting for the inner one.
    let script = "trap : USR1; sh -c 'trap \"echo inner; exit 5\" USR1; echo ready; \
                  while :; do sleep 0.02; done'";
    let mut run = Process::run_script(server.addr(), &[], script).await;
    run.signal(Signal::USR1);
    assert_eq!(run.next_line().await.as_deref(), Some("inner"));
    run.wait_for_eof().await;
}

#[tokio::test]
async fn a_signal_during_the_wait_leaves_the_queue() {
    let server = Server::start().await.unwrap();
    let held = hold(&server).await;
    let mut run = Process::spawn(&mut run(server.addr(), &["echo", "ran"]));
    wait_for_waiters(&server, 1).await;
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
    assert_eq!(run.wait_for_eof().await, "");
    wait_for_waiters(&server, 0).await;
    held.release().await.unwrap();
}

#[tokio::test]
async fn a_signal_that_the_parent_ignores_stays_ignored() {
    let server = Server::start().await.unwrap();
    // As `nohup` does.
    let script = "trap '' HUP; exec \"$0\" run --servers \"$1\" --key job \
                  sh -c 'kill -HUP $$; echo ready; exec sleep 60'";
    let mut command = program("sh", &["-c", script, DFLOCK, &server.addr().to_string()]);
    let mut run = Process::spawn_ready(&mut command).await;
    run.signal(Signal::HUP);
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

/// Returns a shell script with `dflock` as `$0` and `args` as its arguments. Uses `bash`, because
/// not every shell can ignore SIGCHLD.
fn script(script: &str, args: &[&str]) -> Command {
    program("bash", &[&["-c", script, DFLOCK], args].concat())
}

/// Starts `command` with SIGTERM and SIGUSR1 blocked.
fn start_with_blocked_signals(command: &mut Command) -> Process {
    let blocked: SigSet = [NixSignal::SIGTERM, NixSignal::SIGUSR1]
        .into_iter()
        .collect();
    blocked.thread_block().unwrap();
    let run = Process::spawn(command);
    blocked.thread_unblock().unwrap();
    run
}

#[tokio::test]
async fn a_parent_that_ignores_sigchld_gets_the_exit_status() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    for (end, expected) in [("exit 0", 0), ("exit 3", 3), ("kill -KILL $$", 137)] {
        let run = run_args(&addr, &["sh", "-c", end]);
        let output = output_of(&mut script("trap '' CHLD; exec \"$0\" \"$@\"", &run)).await;
        assert_eq!(
            (status(&output), text(&output.stderr)),
            (expected, ""),
            "{end}"
        );
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_command_inherits_signal_dispositions_and_the_mask_of_the_parent() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let show = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    let run = [&[DFLOCK][..], &run_args(&addr, &show)].concat();
    let ignore = "trap '' CHLD HUP USR2 TTOU; exec \"$@\"";
    let mut shown = Vec::new();
    for command in [&show[..], &run] {
        shown.push(
            start_with_blocked_signals(&mut script(ignore, command))
                .wait_for_eof()
                .await,
        );
    }
    assert!(
        shown[0].starts_with("SigBlk:\t0000000000004200\nSigIgn:\t"),
        "{}",
        shown[0]
    );
    // Checks the bits of CHLD, HUP, USR2 and TTOU. The environment may ignore others as well.
    let ignored =
        u64::from_str_radix(shown[0].trim_end().rsplit_once('\t').unwrap().1, 16).unwrap();
    assert_eq!(ignored & 0x21_0801, 0x21_0801, "{}", shown[0]);
    assert_eq!(shown[1], shown[0]);
}

#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_ends_the_wait() {
    let server = Server::start().await.unwrap();
    let _held = hold(&server).await;
    let mut run = start_with_blocked_signals(&mut run(server.addr(), &["echo", "ran"]));
    wait_for_waiters(&server, 1).await;
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_signal_that_the_parent_has_blocked_is_forwarded() {
    let server = Server::start().await.unwrap();
    let mut run = start_with_blocked_signals(&mut run(server.addr(), &["sleep", "4242"]));
    let name = |pid: &Pid| {
        std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default()
    };
    let sleep = || {
        // `dflock` is the parent of the watchdog, and that of the command.
        let watchdogs = children_of(pid(&run.dflock)).into_iter();
        let mut children = watchdogs.flat_map(children_of);
        children.find(|pid| name(pid) == "sleep\n")
    };
    let sleep = wait_for("command", sleep).await;
    run.signal(Signal::TERM);
    // The command inherits the blocked signal, so it stays pending.
    let arrived = || {
        std::fs::read_to_string(format!("/proc/{}/status", sleep.as_raw_nonzero()))
            .unwrap()
            .contains("ShdPnd:\t0000000000004000")
            .then_some(())
    };
    wait_for("SIGTERM", arrived).await;
    kill_process(sleep, Signal::KILL).unwrap();
    assert_eq!(run.status().await, 137);
}
