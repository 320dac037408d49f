//! Signals that arrive while `dflock run` starts its command.
//!
//! Each process is stalled in its dynamic linker, which opens the library of `LD_PRELOAD`: a named
//! pipe without a writer.

use std::fs::{File, remove_file, rename};
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;

use dflock::server::Server;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::process::{TIMEOUT, wait_until_free};
use crate::terminal::Terminal;

/// The processes that start before the command: the leader of the session, which becomes `dflock`,
/// `dflock`, its watchdog, and the process that becomes the command.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    SessionLeader,
    Dflock,
    Watchdog,
    Command,
}

const STAGES: [Stage; 4] = [
    Stage::SessionLeader,
    Stage::Dflock,
    Stage::Watchdog,
    Stage::Command,
];

/// A named pipe that stalls each process with `LD_PRELOAD` until it is opened for writing.
struct Pipe(PathBuf);

impl Pipe {
    fn new() -> Self {
        let thread = thread::current().id();
        let name = format!("dflock-cli-{}-{thread:?}", std::process::id());
        let pipe = Self(std::env::temp_dir().join(name));
        pipe.replace();
        pipe
    }

    /// Waits until a process has opened the pipe. That process is stalled until the file is closed.
    fn wait_for_process(&self) -> File {
        let path = self.0.clone();
        let file = in_time(|| File::options().write(true).open(path).unwrap());
        // The next process must not open this one, because it would not be stalled.
        self.replace();
        file
    }

    /// Waits until the processes before `stage` have started and that of `stage` is stalled.
    fn wait_for_stage(&self, stage: Stage) -> File {
        for started in STAGES {
            let file = self.wait_for_process();
            if started == stage {
                return file;
            }
            // The process finds an empty library when this is closed, and goes on without it.
            drop(file);
        }
        unreachable!("each stage is in the list")
    }

    /// Puts a new pipe in the place of the current one.
    fn replace(&self) {
        let new = self.0.with_extension("new");
        mkfifoat(CWD, &new, Mode::RWXU).unwrap();
        rename(&new, &self.0).unwrap();
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // A failure leaves only a temporary file behind.
        let _ = remove_file(&self.0);
    }
}

/// Returns the result of `call`. Panics if it takes longer than [`TIMEOUT`].
fn in_time<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = channel();
    thread::spawn(move || sender.send(call()));
    result.recv_timeout(TIMEOUT).expect("a process starts")
}

/// Starts `dflock run` in a terminal, and stalls it at `stage`.
fn start(server: &Server, pipe: &Pipe, stage: Stage) -> (Terminal, File) {
    let variables = [
        ("DFLOCK_SERVERS", &*server.addr().to_string()),
        ("LD_PRELOAD", pipe.0.to_str().unwrap()),
    ];
    let terminal = Terminal::run_with(&variables, "echo the command ran; exec sleep 60");
    (terminal, pipe.wait_for_stage(stage))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_interrupt_key_ends_the_start_of_the_command() {
    let server = Server::start().await.unwrap();
    for stage in [Stage::Watchdog, Stage::Command] {
        let pipe = Pipe::new();
        let (mut terminal, _stalled) = start(&server, &pipe, stage);
        terminal.type_keys("\x03");
        let (status, output) = terminal.wait();
        assert_eq!(status, Some(130), "{output}");
        assert!(!output.contains("the command ran"), "{output}");
        wait_until_free(&server.client()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_signal_from_a_process_ends_the_start_of_the_watchdog() {
    let server = Server::start().await.unwrap();
    let pipe = Pipe::new();
    let (terminal, stalled) = start(&server, &pipe, Stage::Watchdog);
    terminal.signal(Signal::TERM);
    wait_until_free(&server.client()).await;
    // The watchdog finds that `dflock` has ended, and ends.
    drop(stalled);
    let (status, output) = terminal.wait();
    assert_eq!(status, Some(143), "{output}");
    assert!(!output.contains("the command ran"), "{output}");
}
