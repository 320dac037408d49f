//! The end of the watchdog process (`dflock __guard`) while the command runs.

use std::process::Stdio;

use dflock::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;

use crate::program::{PATIENCE, Run, children_of, dflock, is_free, pid};
use crate::skipped::skip;

/// Returns the watchdog of a `dflock run` that has started `command`.
fn watchdog(dflock: Pid, command: Pid) -> Pid {
    let mut children = children_of(dflock);
    children.retain(|child| *child != command);
    assert_eq!(children.len(), 1);
    children[0]
}

#[tokio::test]
async fn when_the_watchdog_ends_the_command_is_ended_and_the_status_is_71() {
    let server = Server::start().await.unwrap();
    // what the command has started ends, too
    let script = "echo ready; echo $$; sh -c 'sleep 60; :'; :";
    let addr = server.addr().to_string();
    let args = [
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "sh",
        "-c",
        script,
    ];
    let mut run = Run::of(&mut dflock(&args));
    let mut stderr = run.dflock.stderr.take().unwrap();
    assert_eq!(run.line().await.as_deref(), Some("ready"));
    let command = run.line().await.unwrap().parse().ok();
    let command = command.and_then(Pid::from_raw).unwrap();
    kill_process(watchdog(pid(&run.dflock), command), Signal::KILL).unwrap();
    assert_eq!(run.status().await, 71);
    let mut said = String::new();
    stderr.read_to_string(&mut said).await.unwrap();
    assert!(
        said.contains("watchdog") && said.contains("SIGKILL"),
        "{said}"
    );
    run.silence().await;
    is_free(&server.client()).await;
}

/// The command leaves the group of the watchdog, which is empty when the watchdog has ended. Then the
/// kernel is made to give its number to another process, which leads a group, and `dflock` gets a
/// signal to pass on.
const REUSE: &str = r#"
    "$0" run --servers "$1" --key job --grace 1h setsid sh -c '
        trap "echo asked" TERM; trap "exit 0" USR1; echo $$; while :; do sleep 0.02; done
    ' > command 2> said &
    dflock=$!
    until [ -s command ]; do sleep 0.01; done
    command=$(head -1 command)
    for child in $(cat /proc/$dflock/task/$dflock/children); do
        [ "$child" = "$command" ] || watchdog=$child
    done
    kill -KILL $watchdog
    while [ -e /proc/$watchdog ]; do sleep 0.01; done
    stranger=0
    while [ "$stranger" != "$watchdog" ]; do
        echo $((watchdog - 1)) > /proc/sys/kernel/ns_last_pid
        setsid sh -c 'trap "echo hit; exit" TERM HUP; echo begun; while :; do sleep 0.02; done' > stranger &
        stranger=$!
    done
    until [ -s stranger ]; do sleep 0.01; done
    kill -HUP $dflock
    kill -TERM $dflock
    # both are passed on before this, which ends the command
    kill -USR1 $dflock
    kill -USR1 $command
    wait $dflock
    echo $? $(cat stranger)
"#;

#[tokio::test]
async fn a_signal_never_reaches_a_group_that_has_the_number_of_the_watchdog() {
    const FLAGS: [&str; 5] = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let unshare = || {
        let mut unshare = tokio::process::Command::new("unshare");
        unshare.args(FLAGS).arg("--kill-child").kill_on_drop(true);
        unshare.stdin(Stdio::null());
        unshare
    };
    let probe = "echo 300 > /proc/sys/kernel/ns_last_pid";
    let mut command = unshare();
    let probe = command.args(["sh", "-c", probe]).output().await;
    if !probe.is_ok_and(|output| output.status.success()) {
        return skip("this system does not allow a namespace with process numbers of choice");
    }
    let server = Server::start().await.unwrap();
    let folder = std::env::temp_dir().join(format!("dflock-watchdog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = unshare();
    command.current_dir(&folder);
    command.args(["sh", "-c", REUSE, env!("CARGO_BIN_EXE_dflock")]);
    command.arg(server.addr().to_string());
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let said = std::fs::read_to_string(folder.join("said")).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.expect("it ends").unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(shown, "71 begun\n", "{said}");
}
