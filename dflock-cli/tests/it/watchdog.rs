//! The end of the watchdog process (`dflock __watchdog`) while the command runs.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use dflock::server::Server;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::process::{
    DFLOCK, PID_1, Process, TIMEOUT, children_of, dflock, is_allowed, pid, program, run, unshare,
    wait_for, wait_until_free, wait_until_gone,
};

/// Returns the watchdog of a `dflock run` that runs its command.
fn watchdog(dflock: Pid) -> Pid {
    let children = children_of(dflock);
    assert_eq!(children.len(), 1);
    children[0]
}

#[tokio::test]
async fn the_end_of_the_watchdog_terminates_the_command_and_exits_with_71() {
    let server = Server::start().await.unwrap();
    // The command starts a process, which must end as well.
    let script = "echo ready; sh -c 'sleep 60; :'; :";
    let mut run = Process::spawn_ready(&mut run(server.addr(), &["sh", "-c", script])).await;
    let mut stderr = run.dflock.stderr.take().unwrap();
    kill_process(watchdog(pid(&run.dflock)), Signal::KILL).unwrap();
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

#[tokio::test]
async fn a_stopped_watchdog_kills_the_command_when_dflock_is_killed() {
    let server = Server::start().await.unwrap();
    // Inside of another run, whose watchdog adopts that of the inner run. If PID 1 did, the group
    // would be orphaned, and the kernel would continue it.
    let script = "\"$0\" run --servers \"$1\" --key job sh -c \
                  'trap \"\" TERM; sh -c \"echo ready; echo \\$\\$; sleep 60; :\"; :'; \
                  exec sleep 60";
    let addr = server.addr().to_string();
    let outer = ["run", "--servers", &addr, "--key", "outer", "sh", "-c"];
    let mut command = dflock(&[&outer[..], &[script, DFLOCK, &addr]].concat());
    let mut run = Process::spawn_ready(&mut command).await;
    let descendant = run.next_line().await.unwrap();
    let shell = children_of(watchdog(pid(&run.dflock)));
    let inner = children_of(shell[0]);
    kill_process(watchdog(inner[0]), Signal::STOP).unwrap();
    kill_process(inner[0], Signal::KILL).unwrap();
    wait_until_gone(&descendant).await;
    run.signal(Signal::KILL);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn the_end_of_the_command_is_noticed_after_the_watchdog_was_stopped() {
    let server = Server::start().await.unwrap();
    // The command stops its process group, with the watchdog; the test continues only the command.
    let script = "echo ready; echo $$; kill -STOP 0; exit 3";
    let mut run = Process::run_script(server.addr(), &[], script).await;
    let command = run.next_pid().await;
    let is_stopped = || {
        std::fs::read_to_string(format!("/proc/{}/stat", command.as_raw_nonzero()))
            .unwrap()
            .contains(") T ")
            .then_some(())
    };
    wait_for("stopped command", is_stopped).await;
    kill_process(command, Signal::CONT).unwrap();
    assert_eq!(run.status().await, 3);
    run.wait_for_eof().await;
}

#[tokio::test]
async fn a_command_is_terminated_while_the_watchdog_is_stopped() {
    let server = Server::start().await.unwrap();
    // The command ends only when it is told to: without a process that is left, `dflock` would
    // send SIGCONT to the group, and so to the watchdog.
    let script = "trap 'echo ending' TERM; trap 'echo continued; read -r line; exit 0' CONT; \
                  echo ready; while :; do sleep 0.02; done";
    let args = ["--grace", "1h", "sh", "-c", script];
    let mut command = run(server.addr(), &args);
    let mut run = Process::spawn_ready(command.stdin(Stdio::piped())).await;
    kill_process(watchdog(pid(&run.dflock)), Signal::STOP).unwrap();
    server.faults().disconnect("job");
    assert_eq!(run.next_line().await.as_deref(), Some("ending"));
    assert_eq!(run.next_line().await.as_deref(), Some("continued"));
    drop(run.dflock.stdin.take());
    assert_eq!(run.status().await, 76);
    run.wait_for_eof().await;
}

/// Starts the watchdog of a shell script, in the place of `dflock`. Returns the socket.
fn start_watchdog(script: &str) -> (Process, UnixStream) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(TIMEOUT)).unwrap();
    let parent = std::process::id().to_string();
    let mut command = program(DFLOCK, &["__watchdog", &parent, "sh", "-c", script]);
    let run = Process::spawn(command.stdin(OwnedFd::from(theirs)));
    let mut line = [0; "ready\n".len()];
    ours.read_exact(&mut line).unwrap();
    (run, ours)
}

/// Sends the standard input and the first deadline of the command, in milliseconds.
fn start_command(socket: &UnixStream, deadline: u32) {
    let null = [File::open("/dev/null").unwrap()];
    let null = null.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    message.push(SendAncillaryMessage::ScmRights(&null));
    let line = format!(".deadline {deadline}\n");
    let lines = [IoSlice::new(line.as_bytes())];
    sendmsg(socket, &lines, &mut message, SendFlags::empty()).unwrap();
}

/// One direction of the socket is closed, as when `dflock` dies before the watchdog has reported
/// the start or the end of the command.
#[tokio::test]
async fn a_watchdog_that_cannot_report_kills_the_processes_of_the_command() {
    let (mut run, socket) = start_watchdog("sh -c 'echo ready; exec sleep 60' & exit");
    socket.shutdown(Shutdown::Read).unwrap();
    start_command(&socket, 3_600_000);
    assert_eq!(run.next_line().await.as_deref(), Some("ready"));
    drop(socket);
    run.wait_for_eof().await;
}

/// As when the watchdog is stopped before it starts the command.
#[tokio::test]
async fn a_command_is_not_started_after_its_deadline() {
    let (run, mut socket) = start_watchdog("echo ready");
    start_command(&socket, 0);
    assert_eq!(run.wait_for_eof().await, "");
    let mut message = String::new();
    socket.read_to_string(&mut message).unwrap();
    assert!(message.contains("deadline"), "{message}");
}

/// A script that starts a process without a parent, without the token and in another group.
const STRAY: &str = "exec bash -c 'set -m; \
                     (env -u DFLOCK_TOKEN sh -c \"echo ready; exec sleep 60\" &); \
                     set +m; sleep 60; :'";

#[tokio::test]
async fn a_process_without_a_parent_and_the_token_is_terminated() {
    for end in ["lost", "killed", "watchdog killed"] {
        let server = Server::start().await.unwrap();
        let mut run = Process::run_script(server.addr(), &[], STRAY).await;
        let expected = match end {
            "lost" => {
                server.faults().disconnect("job");
                76
            }
            "killed" => {
                run.signal(Signal::KILL);
                -1
            }
            _ => {
                kill_process(watchdog(pid(&run.dflock)), Signal::KILL).unwrap();
                71
            }
        };
        assert_eq!(run.status().await, expected, "{end}");
        run.wait_for_eof().await;
    }
}

#[tokio::test]
async fn a_child_that_dflock_had_before_is_not_terminated() {
    for kill_watchdog in [false, true] {
        let server = Server::start().await.unwrap();
        // The shell becomes `dflock`, which inherits its child.
        let script = "exec 3<&0; cat <&3 & exec 3<&- 0</dev/null; \
                      exec \"$0\" run --servers \"$1\" --key job sh -c 'echo ready; exec sleep 60'";
        let mut command = program("bash", &["-c", script, DFLOCK, &server.addr().to_string()]);
        let mut run = Process::spawn_ready(command.stdin(Stdio::piped())).await;
        let mut stdin = run.dflock.stdin.take().unwrap();
        let expected = if kill_watchdog {
            let children = children_of(pid(&run.dflock)).into_iter();
            let name = |pid: &Pid| std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let mut watchdogs = children.filter(|pid| name(pid).unwrap().starts_with(b"dflock"));
            kill_process(watchdogs.next().unwrap(), Signal::KILL).unwrap();
            71
        } else {
            server.faults().disconnect("job");
            76
        };
        assert_eq!(run.status().await, expected);
        stdin.write_all(b"still here\n").await.unwrap();
        drop(stdin);
        assert_eq!(run.wait_for_eof().await, "still here\n");
    }
}

/// A script that makes the kernel reuse the pid of the watchdog, and then sends `dflock` signals to
/// forward.
///
/// The command is killed with the watchdog. It has started a process in another group (`set -m`),
/// so that the group of the watchdog is empty then, and `dflock` waits for the process. Another
/// process gets the pid of the watchdog, and leads a group. `read` removes the space after a pid.
const REUSE: &str = r#"
    "$0" run --servers "$1" --key job --grace 1h bash -c 'set -m; sh -c "
        trap \"echo terminated\" TERM; trap \"exit 0\" USR1; echo \$\$; while :; do sleep 0.02; done
    " & wait' > output 2> stderr &
    dflock=$!
    until [ -s output ]; do sleep 0.01; done
    child=$(head -1 output)
    read -r watchdog < /proc/$dflock/task/$dflock/children
    read -r command < /proc/$watchdog/task/$watchdog/children
    kill -KILL $watchdog
    until grep -q terminated output; do sleep 0.01; done
    # The id of the group is in use until its last member is reaped.
    while [ -e /proc/$watchdog ] || [ -e /proc/$command ]; do sleep 0.01; done
    other=0 tries=0
    while [ "$other" != "$watchdog" ]; do
        # Each try starts a process, so an endless loop would use up the machine.
        tries=$((tries + 1))
        [ $tries -le 100 ] || exit 1
        echo $((watchdog - 1)) > /proc/sys/kernel/ns_last_pid
        setsid sh -c '
            trap "echo received" TERM HUP; trap "exit 0" USR1; echo started
            while :; do sleep 0.02; done
        ' > other &
        other=$!
        [ "$other" = "$watchdog" ] || kill -KILL $other
    done
    until [ -s other ]; do sleep 0.01; done
    kill -HUP $dflock
    kill -TERM $dflock
    # dflock forwards both before the command ends at this signal.
    kill -USR1 $dflock
    kill -USR1 $child
    wait $dflock
    status=$?
    # It handles the signals that have arrived before this one first.
    kill -USR1 $other
    wait $other
    echo $status $(cat other)
"#;

#[tokio::test]
async fn a_signal_is_not_forwarded_to_a_group_that_has_the_reused_id_of_the_watchdog() {
    let probe = ["sh", "-c", "echo 300 > /proc/sys/kernel/ns_last_pid"];
    if !is_allowed(&PID_1, &probe).await {
        return;
    }
    let server = Server::start().await.unwrap();
    let folder = std::env::temp_dir().join(format!("dflock-watchdog-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let addr = server.addr().to_string();
    let mut command = unshare(&PID_1, &["sh", "-c", REUSE, DFLOCK, &addr]);
    command.current_dir(&folder);
    let output = timeout(TIMEOUT, command.output()).await;
    let stderr = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
    std::fs::remove_dir_all(&folder).unwrap();
    let output = output.expect("the script ends").unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "71 started\n", "{stderr}");
}
