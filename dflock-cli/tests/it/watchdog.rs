//! The end of the watchdog process (`dflock __watchdog`) while the command runs.

use std::process::Stdio;

use dflock::server::Server;
use dflock_tests::skip;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;

use crate::process::{Process, TIMEOUT, children_of, dflock, pid, wait_until_free};

/// Returns the watchdog of a `dflock run` that has started `command`.
fn watchdog(dflock: Pid, command: Pid) -> Pid {
    let mut children = children_of(dflock);
    children.retain(|child| *child != command);
    assert_eq!(children.len(), 1);
    children[0]
}

#[tokio::test]
async fn the_end_of_the_watchdog_terminates_the_command_and_exits_with_71() {
    let server = Server::start().await.unwrap();
    // The command starts a process, which must end as well.
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
    let mut run = Process::spawn(&mut dflock(&args));
    let mut stderr = run.dflock.stderr.take().unwrap();
    assert_eq!(run.next_line().await.as_deref(), Some("ready"));
    let command = run.next_line().await.unwrap().parse().ok();
    let command = command.and_then(Pid::from_raw).unwrap();
    kill_process(watchdog(pid(&run.dflock), command), Signal::KILL).unwrap();
    assert_eq!(run.status().await, 71);
    let mut text = String::new();
    stderr.read_to_string(&mut text).await.unwrap();
    assert!(
        text.contains("watchdog") && text.contains("SIGKILL"),
        "{text}"
    );
    run.wait_for_eof().await;
    wait_until_free(&server.client()).await;
}

/// A script that makes the kernel reuse the pid of the watchdog, and then sends `dflock` signals to
/// forward.
///
/// The command leaves the group of the watchdog, so that the group is empty when the watchdog has
/// ended. Another process then gets the pid of the watchdog, and leads a group.
const REUSE: &str = r#"
    "$0" run --servers "$1" --key job --grace 1h setsid sh -c '
        trap "echo received" TERM; trap "exit 0" USR1; echo $$; while :; do sleep 0.02; done
    ' > command 2> stderr &
    dflock=$!
    until [ -s command ]; do sleep 0.01; done
    command=$(head -1 command)
    for child in $(cat /proc/$dflock/task/$dflock/children); do
        [ "$child" = "$command" ] || watchdog=$child
    done
    kill -KILL $watchdog
    while [ -e /proc/$watchdog ]; do sleep 0.01; done
    other=0 tries=0
    while [ "$other" != "$watchdog" ]; do
        # Each try starts a process, so an endless loop would use up the machine.
        tries=$((tries + 1))
        [ $tries -le 100 ] || exit 1
        echo $((watchdog - 1)) > /proc/sys/kernel/ns_last_pid
        setsid sh -c '
            trap "echo received; exit" TERM HUP; echo started; while :; do sleep 0.02; done
        ' > other &
        other=$!
        [ "$other" = "$watchdog" ] || kill -KILL $other
    done
    until [ -s other ]; do sleep 0.01; done
    kill -HUP $dflock
    kill -TERM $dflock
    # dflock forwards both before the command ends at this signal.
    kill -USR1 $dflock
    kill -USR1 $command
    wait $dflock
    echo $? $(cat other)
"#;

#[tokio::test]
async fn a_signal_is_not_forwarded_to_a_group_that_has_the_reused_id_of_the_watchdog() {
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
        return skip("this system does not allow a PID namespace in which pids can be chosen");
    }
    let server = Server::start().await.unwrap();
    let folder = std::env::temp_dir().join(format!("dflock-watchdog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = unshare();
    command.current_dir(&folder);
    command.args(["sh", "-c", REUSE, env!("CARGO_BIN_EXE_dflock")]);
    command.arg(server.addr().to_string());
    let output = tokio::time::timeout(TIMEOUT, command.output()).await;
    let stderr = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.expect("the script ends").unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "71 started\n", "{stderr}");
}
