//! `dflock` as a process.

use std::process::{Output, Stdio};
use std::time::Duration;

use dflock::Client;
use dflock::server::Server;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// The longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `dflock` with `args`, not started yet, and with nothing of this process's environment but the path.
pub(crate) fn dflock(args: &[&str]) -> Command {
    heed_signals();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dflock"));
    command
        .args(args)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    // as if it were started by no terminal, wherever the tests are run
    command.process_group(0).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A signal that this process was started to ignore, as in the background of a script, would be ignored by all that it starts; one that it
/// handles is not.
pub(crate) fn heed_signals() {
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

/// `dflock` with `args` on `server`, which comes to its end.
pub(crate) async fn output(server: &Server, args: &[&str]) -> Output {
    done(dflock(args).env("DFLOCK_SERVERS", server.addr().to_string())).await
}

pub(crate) async fn done(command: &mut Command) -> Output {
    timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap()
}

/// Its exit status.
pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().expect("no signal ended dflock itself")
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// `dflock run` whose command has begun.
pub(crate) struct Run {
    pub(crate) dflock: Child,
    pub(crate) out: Lines<BufReader<ChildStdout>>,
}

impl Run {
    /// Runs a shell script with a slot of `job`, and waits for its first line, `ready`.
    pub(crate) async fn start(server: &str, args: &[&str], script: &str) -> Self {
        let args = [
            &["run", "--servers", server, "--key", "job"],
            args,
            &["sh", "-c", script],
        ]
        .concat();
        let mut run = Self::of(dflock(&args).stderr(Stdio::null()));
        assert_eq!(run.line().await.as_deref(), Some("ready"));
        run
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut dflock = command.spawn().unwrap();
        let out = BufReader::new(dflock.stdout.take().unwrap()).lines();
        Self { dflock, out }
    }

    /// The command's next line, or its end and that of all that it has started.
    pub(crate) async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.out.next_line())
            .await
            .expect("it says something, or ends")
            .unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(&self.dflock), signal).unwrap();
    }

    /// Its exit status; -1 when it was killed.
    pub(crate) async fn status(&mut self) -> i32 {
        timeout(PATIENCE, self.dflock.wait())
            .await
            .expect("it ends")
            .unwrap()
            .code()
            .unwrap_or(-1)
    }

    /// Waits until the command and all that it has started are gone: nobody has its output open.
    pub(crate) async fn silence(self) -> String {
        let mut rest = String::new();
        let mut out = self.out.into_inner();
        timeout(PATIENCE, out.read_to_string(&mut rest))
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
            .expect("it has not been waited for")
            .cast_signed(),
    )
    .unwrap()
}

/// Waits until a slot of `job` is free.
pub(crate) async fn is_free(client: &Client) {
    client
        .semaphore("job", 1)
        .unwrap()
        .acquire_within(PATIENCE)
        .await
        .unwrap();
}

/// Waits until the process with this number has ended, though its parent may not have looked yet.
#[cfg(target_os = "linux")]
pub(crate) async fn is_gone(pid: &str) {
    let runs = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    let gone = async {
        while runs() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, gone)
        .await
        .unwrap_or_else(|_| panic!("{pid} still runs"));
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
