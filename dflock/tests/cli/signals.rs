//! Signals that come to `dflock run`.

use std::process::Stdio;

use dflock::server::Server;
use rustix::process::Signal;

use crate::program::{Run, dflock, is_free};

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
        let script = format!("trap 'echo {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done");
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
        let mut run = Run::start(&server.addr().to_string(), &[], "echo ready; exec sleep 60").await;
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
    let held = server.client().semaphore("job", 1).unwrap().acquire().await.unwrap();
    let mut run = Run::of(&mut dflock(&["run", "--servers", &server.addr().to_string(), "--key", "job", "echo", "ran"]));
    let waiters = || server.stats().semaphores.iter().map(|semaphore| semaphore.waiters).sum::<u64>();
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
    command = tokio::process::Command::new("sh");
    command.args(["-c", script]).arg(program).arg(server.addr().to_string());
    command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut run = Run::of(&mut command);
    assert_eq!(run.line().await.as_deref(), Some("ready"));
    run.signal(Signal::TERM);
    assert_eq!(run.status().await, 143);
}
