//! The watchdog process: `dflock __watchdog PID CMD ARGS..`, where PID is that of `dflock`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::future::pending;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_current_process_group, kill_process, setpgid};
use tokio::io::{BufReader, Lines};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, sleep_until};

use super::read_lines;
use crate::exec::PendingCommand;
use crate::fd_passing;
use crate::prctl::{become_subreaper, request_death_signal};
use crate::process_tree::ProcessTree;
use crate::reaper::{Reaper, reap_orphans};
use crate::signals::{self, InheritedMask};

/// The first argument of this process.
pub(crate) const NAME: &str = "__watchdog";

/// Extra time before the watchdog kills the command, so that a running `dflock` does it first.
const GRACE: Duration = Duration::from_millis(250);

/// Runs the watchdog process: starts the command, waits for the end of the socket or a missed
/// deadline, and then kills the command, its descendants and its process group.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let parent = args.next().and_then(|parent| parent.to_str()?.parse().ok());
    let words: Vec<_> = args.collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    if let (Some(parent), Ok(runtime)) = (parent, runtime) {
        runtime.block_on(async {
            let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else {
                return;
            };
            let socket = StdUnixStream::from(socket);
            match Command::start(parent, &words, &socket).await {
                Ok(mut command) => {
                    command.watch().await;
                    command.kill().await;
                }
                // Fails if `dflock` has ended.
                Err(error) => send(&socket, format_args!("{error}")),
            }
        });
    }
    ExitCode::FAILURE
}

/// The command, a child of this process.
struct Command<'a> {
    pid: Pid,
    reaper: Reaper,
    socket: &'a StdUnixStream,
    requests: Requests,
    /// The command is killed then; `None` for a time that never passes.
    deadline: Option<Instant>,
}

impl<'a> Command<'a> {
    /// Waits for the standard input and the first deadline of the command, and starts it.
    ///
    /// If this fails, the command was not started. After that nothing may fail: this process would
    /// end, and the descendants of the command would keep running.
    async fn start(parent: i32, words: &[OsString], socket: &'a StdUnixStream) -> io::Result<Self> {
        // A stopped watchdog would not notice the end of `dflock`.
        request_death_signal(Signal::CONT, parent)?;
        become_subreaper()?;
        send(socket, format_args!("ready"));
        let stdin = fd_passing::receive(socket)?;
        let mut requests = read_lines(socket)?;
        let Some(Request::Deadline(deadline)) = next_request(&mut requests).await else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };

        let (pending, mut command) = PendingCommand::new(words)?;
        let pid = Pid::from_child(&command.spawn()?);
        // Close this process's copy of the child's socket.
        drop(command);
        // After the spawn, because the command inherits the dispositions and the mask of signals,
        // and its process group.
        signals::ignore_all();
        InheritedMask::unblock()?;
        let reaper = Reaper::new(pid)?;
        // From here on, keys of the terminal do not reach this process.
        setpgid(None, None)?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            // This process was stopped, and the slot may belong to another holder by now.
            let message = "its watchdog was stopped until the deadline of the command";
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        // If the process has ended already, it has printed the reason, and its status is reported.
        let _ = pending.start(stdin.as_fd());
        send(socket, format_args!("started {pid}"));
        Ok(Self {
            pid,
            reaper,
            socket,
            requests,
            deadline,
        })
    }

    /// Serves the requests and reports the end of the command. Returns when the deadline passes, or
    /// when `dflock` has ended.
    async fn watch(&mut self) {
        loop {
            let runs = self.reaper.runs();
            tokio::select! {
                biased;
                request = next_request(&mut self.requests) => match request {
                    Some(Request::Deadline(deadline)) => self.deadline = deadline,
                    Some(Request::Signal(signal)) if runs => {
                        // Fails if the command has gained privileges.
                        let _ = kill_process(self.pid, signal);
                    }
                    Some(Request::Signal(_)) => {}
                    None => return,
                },
                status = self.reaper.wait(), if runs => match status {
                    Ok(status) => send(self.socket, format_args!("ended {}", status.into_raw())),
                    Err(_) => return,
                },
                () = expire(self.deadline) => return,
                never = reap_orphans(), if !runs => match never {},
            }
        }
    }

    /// Kills the command, its descendants and its process group, and so this process.
    async fn kill(&self) {
        ProcessTree {
            root: getpid(),
            excluded: HashSet::new(),
            command: self.reaper.runs().then_some(self.pid),
            group: None,
        }
        .kill()
        .await;
        // Kills this process as well; needed where `/proc` shows no processes.
        let _ = kill_current_process_group(Signal::KILL);
    }
}

/// Sends a line to `dflock`. If that has ended, the next read of a request says so.
fn send(mut socket: &StdUnixStream, line: fmt::Arguments<'_>) {
    let _ = socket.write_all(format!("{line}\n").as_bytes());
}

/// A request of `dflock`.
enum Request {
    /// A heartbeat with the new deadline, or `None` for one that never passes.
    Deadline(Option<Instant>),
    /// A signal for the command.
    Signal(Signal),
}

impl Request {
    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ')? {
            ("deadline", millis) => {
                let time = millis.parse().map_or(Duration::MAX, Duration::from_millis);
                Some(Self::Deadline(Instant::now().checked_add(time)))
            }
            ("signal", number) => Signal::from_named_raw(number.parse().ok()?).map(Self::Signal),
            _ => None,
        }
    }
}

/// The requests of `dflock`, as lines.
type Requests = Lines<BufReader<UnixStream>>;

/// Waits for the next request. Returns `None` when `dflock` has ended. Cancel safe.
async fn next_request(requests: &mut Requests) -> Option<Request> {
    let line = requests.next_line().await.ok()??;
    Request::parse(&line)
}

/// Waits until [`GRACE`] after the deadline. If this process was stopped itself, that is the time
/// in which it reads heartbeats that arrived meanwhile.
async fn expire(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
    sleep(GRACE).await;
}
