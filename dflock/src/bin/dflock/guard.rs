//! What ends the command's processes when `dflock` cannot: `dflock __guard`.
//!
//! The death signal reaches only the command itself, and nothing reaches it when `dflock` is stopped. The guard reads a pipe that only
//! `dflock` has the other end of: it ends when `dflock` does, however it does, and until then it brings news of how long the command
//! may run. Away from a terminal the guard leads the process group that the command is in.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_current_process_group, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::{Receiver as PipeReceiver, Sender};

use crate::children::Children;
use crate::exec::this_program;
use crate::family::{Family, TOKEN};
use crate::signals;

/// The first argument that asks for this.
pub(crate) const NAME: &str = "__guard";

/// How much longer than the command may run it does, so that `dflock`, if it runs, is the one that ends it.
const LATE: Duration = Duration::from_millis(250);

/// Watches over a command. The command and all that it has started are killed when this is dropped without
/// [`dismiss`](Self::dismiss), as when this process dies, and when no news of them comes in time.
pub(crate) struct Guard {
    token: String,
    pid: Pid,
    news: Sender,
}

impl Guard {
    /// A guard of those that have `token` in their environment. Comes back when it reads.
    pub(crate) async fn start(token: &str) -> io::Result<Self> {
        let mut command = this_program(NAME);
        // or it would be one of those that the guard of a `dflock run` around this one is to end
        command.env_remove(TOKEN);
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        let news = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let news = Sender::from_owned_fd(news.into())?;
        news.writable().await?;
        news.try_write(format!("{token}\n").as_bytes())?;
        let ready = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        PipeReceiver::from_owned_fd(ready.into())?.read_u8().await?;
        Ok(Self {
            token: token.to_owned(),
            pid,
            news,
        })
    }

    /// Its process number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// What those have in their environment that it guards.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The process group that it leads. Another one may have its number when the guard has ended.
    pub(crate) fn group(&self) -> Pid {
        self.pid
    }

    /// The command may run for `time` from now on. Until this was told once, nothing may be started. Fails when the guard has ended, or
    /// does not read.
    pub(crate) fn allow(&self, time: Duration) -> io::Result<()> {
        // a line is short enough to be written as one
        self.news
            .try_write(format!("{}\n", time.as_millis()).as_bytes())
            .map(drop)
    }

    /// Watches no longer, and leaves alone what runs. `children` are those of this process.
    pub(crate) async fn dismiss(&self, children: &mut Children) {
        if children.contains(self.pid) {
            // it has ended already if this fails
            let _ = kill_process(self.pid, Signal::KILL);
        }
        // not before it has ended: at the end of `news` it would kill what it watches
        let _ = children.wait(self.pid).await;
    }
}

/// Waits for the end of standard input, or for news that does not come, and kills those that it guards and its process group.
pub(crate) fn guard() -> ExitCode {
    // what is passed on to the group comes here, too, and is heard by nobody
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let _context = runtime.enter();
    let _unheard = signals::all();
    let Some(Ok(token)) = io::stdin().lines().next() else {
        return ExitCode::FAILURE;
    };
    let mut ready = io::stdout();
    if ready.write_all(b".").and_then(|()| ready.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    let (told, news) = channel();
    // ends with standard input, or with this process; an error is an end, too
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            let time = line.parse().map_or(Duration::MAX, Duration::from_millis);
            if told.send(Instant::now().checked_add(time)).is_err() {
                break;
            }
        }
    });
    watch(&news);
    // it leads a group
    Family {
        token,
        command: None,
        group: Some(getpid()),
    }
    .signal(Signal::KILL);
    // where nothing is told of processes; this is one of those that are killed
    let _ = kill_current_process_group(Signal::KILL);
    ExitCode::FAILURE
}

/// Comes back when there is no more news, or none in time. Nothing runs before the first.
fn watch(news: &Receiver<Option<Instant>>) {
    let Ok(mut until) = news.recv() else { return };
    loop {
        let left = until.map_or(Duration::MAX, |until: Instant| {
            until.saturating_duration_since(Instant::now())
        });
        let more = match news.recv_timeout(left) {
            // a process that was stopped itself reads first what has come meanwhile
            Err(RecvTimeoutError::Timeout) => news.recv_timeout(LATE),
            more => more,
        };
        match more {
            Ok(more) => until = more,
            Err(_) => return,
        }
    }
}
