//! Starts `dflock` and the processes of the tests, and waits for their output and their effects.

use std::fmt::Display;
use std::process::{Output, Stdio};
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Held, Semaphore};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// Time limit of every wait in these tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The program `dflock`.
pub(crate) const DFLOCK: &str = env!("CARGO_BIN_EXE_dflock");

/// Returns a command that runs `dflock` with `args`, and with only `PATH` in its environment.
pub(crate) fn dflock(args: &[&str]) -> Command {
    let mut command = program(DFLOCK, args);
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// Returns a command that runs `dflock run` for the key `job` of the server `addr`. `args` are its
/// other options and the command.
pub(crate) fn run(addr: impl Display, args: &[&str]) -> Command {
    dflock(&run_args(&addr.to_string(), args))
}

/// Returns the arguments of [`run`].
pub(crate) fn run_args<'a>(addr: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--servers", addr, "--key", "job"], args].concat()
}

/// Returns a command that runs `name` with `args`, without input and with captured output. It is
/// killed when it is dropped.
pub(crate) fn program(name: &str, args: &[&str]) -> Command {
    reset_ignored_signals();
    let mut command = Command::new(name);
    // Its own process group, so that it is never in the foreground of the terminal of the tests.
    command.args(args).process_group(0).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The options of `unshare` for a PID namespace in which the command is PID 1.
#[cfg(target_os = "linux")]
pub(crate) const PID_1: [&str; 6] = [
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

/// Returns a command that runs `command` in new namespaces.
#[cfg(target_os = "linux")]
pub(crate) fn unshare(flags: &[&str], command: &[&str]) -> Command {
    program("unshare", &[flags, command].concat())
}

/// Returns a command that runs `dflock run` as PID 1. Its command is a shell script.
#[cfg(target_os = "linux")]
pub(crate) fn run_as_pid_1(addr: impl Display, script: &str) -> Command {
    let addr = addr.to_string();
    let run = run_args(&addr, &["sh", "-c", script]);
    unshare(&PID_1, &[&[DFLOCK], &run[..]].concat())
}

/// Returns whether this system allows `command` in new namespaces. If not, reports that the test
/// is skipped.
#[cfg(target_os = "linux")]
pub(crate) async fn is_allowed(flags: &[&str], command: &[&str]) -> bool {
    let output = unshare(flags, command).output().await;
    let allowed = output.is_ok_and(|output| output.status.success());
    if !allowed {
        let words = [flags, command].concat().join(" ");
        dflock_tests::skip(&format!("this system does not allow `unshare {words}`"));
    }
    allowed
}

/// Handles the signals that this process ignores, as in the background of a script, so that its
/// children start with the default action. Children inherit an ignored signal, but not a handler.
pub(crate) fn reset_ignored_signals() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    for kind in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::TERM,
    ]
    .map(Signal::as_raw)
    {
        if ignored & (1 << (kind - 1)) != 0 {
            drop(signal(SignalKind::from_raw(kind)).unwrap());
        }
    }
}

/// Runs `dflock` with `args` on `server` until it ends, and returns its output.
pub(crate) async fn output(server: &Server, args: &[&str]) -> Output {
    output_of(dflock(args).env("DFLOCK_SERVERS", server.addr().to_string())).await
}

/// Runs `command` until it ends, and returns its output.
pub(crate) async fn output_of(command: &mut Command) -> Output {
    timeout(TIMEOUT, command.output())
        .await
        .expect("the process ends")
        .unwrap()
}

/// Returns the exit code. Panics if a signal ended `dflock` itself.
pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().expect("no signal ended dflock itself")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A running `dflock`, and the lines of its standard output.
pub(crate) struct Process {
    pub(crate) dflock: Child,
    pub(crate) out: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Runs a shell script under a slot of `job`, and waits for its first line, `ready`.
    pub(crate) async fn run_script(addr: impl Display, args: &[&str], script: &str) -> Self {
        let args = [args, &["sh", "-c", script]].concat();
        Self::spawn_ready(run(addr, &args).stderr(Stdio::null())).await
    }

    /// Spawns `command`, whose output must be piped, and waits for its first line, `ready`.
    pub(crate) async fn spawn_ready(command: &mut Command) -> Self {
        let mut process = Self::spawn(command);
        assert_eq!(process.next_line().await.as_deref(), Some("ready"));
        process
    }

    /// Spawns `command`, whose standard output must be piped.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut dflock = command.spawn().unwrap();
        let out = BufReader::new(dflock.stdout.take().unwrap()).lines();
        Self { dflock, out }
    }

    /// Returns the next line of the output, or `None` when no process has the output open.
    pub(crate) async fn next_line(&mut self) -> Option<String> {
        timeout(TIMEOUT, self.out.next_line())
            .await
            .expect("the command prints a line, or ends")
            .unwrap()
    }

    /// Returns the pid that is the next line of the output.
    pub(crate) async fn next_pid(&mut self) -> Pid {
        Pid::from_raw(self.next_line().await.unwrap().parse().unwrap()).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(&self.dflock), signal).unwrap();
    }

    /// Waits until `dflock` ends. Returns its exit code, or -1 if a signal ended it.
    pub(crate) async fn status(&mut self) -> i32 {
        timeout(TIMEOUT, self.dflock.wait())
            .await
            .expect("it ends")
            .unwrap()
            .code()
            .unwrap_or(-1)
    }

    /// Waits until the command and all processes that it started have closed their output. Returns
    /// the rest of the output.
    pub(crate) async fn wait_for_eof(self) -> String {
        let mut rest = String::new();
        let mut out = self.out.into_inner();
        timeout(TIMEOUT, out.read_to_string(&mut rest))
            .await
            .expect("all processes end")
            .unwrap();
        rest
    }
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_raw(
        child
            .id()
            .expect("the child has not been waited for")
            .cast_signed(),
    )
    .unwrap()
}

/// Acquires the only slot of `job`.
pub(crate) async fn hold(server: &Server) -> Semaphore<Held> {
    acquire(&server.client(), "job", 1).await
}

/// Acquires a slot of `key`.
pub(crate) async fn acquire(client: &Client, key: &str, limit: u32) -> Semaphore<Held> {
    client
        .semaphore(key, limit)
        .unwrap()
        .acquire()
        .await
        .unwrap()
}

/// Waits until the queue of `job` has `count` waiters.
pub(crate) async fn wait_for_waiters(server: &Server, count: u64) {
    let has_waiters = || {
        let stats = server.stats();
        let job = stats.semaphores.iter().find(|key| key.key == "job");
        (job.map_or(0, |job| job.waiters) == count).then_some(())
    };
    wait_for(&format!("{count} waiters"), has_waiters).await;
}

/// Calls `look` until it returns a value, and returns that. Panics with `what` after [`TIMEOUT`].
pub(crate) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, found)
        .await
        .unwrap_or_else(|_| panic!("no {what}"))
}

/// Waits until a slot of `job` is free.
pub(crate) async fn wait_until_free(client: &Client) {
    client
        .semaphore("job", 1)
        .unwrap()
        .acquire_within(TIMEOUT)
        .await
        .unwrap();
}

/// Waits until the process `pid` has ended. It may still be a zombie.
#[cfg(target_os = "linux")]
pub(crate) async fn wait_until_gone(pid: &str) {
    let runs = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    wait_for(&format!("end of {pid}"), || (!runs()).then_some(())).await;
}

/// Returns the children of a process.
#[cfg(target_os = "linux")]
pub(crate) fn children_of(parent: Pid) -> Vec<Pid> {
    let pid = parent.as_raw_nonzero();
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw))
        .collect()
}
