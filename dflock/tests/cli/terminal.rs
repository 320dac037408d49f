//! `dflock run` in the foreground of a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use dflock::server::Server;
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

#[cfg(target_os = "linux")]
use crate::program::is_gone;
use crate::program::{PATIENCE, heed_signals};

/// Names the program that [`leader`] becomes.
const BECOMES: &str = "DFLOCK_TEST_LEADER";

/// A terminal, and what is shown on it.
struct Terminal {
    keys: File,
    shown: Receiver<Vec<u8>>,
    text: String,
    dflock: Child,
}

impl Terminal {
    /// `dflock run` in the foreground of a new terminal.
    fn run(server: &Server, script: &str) -> Self {
        heed_signals();
        let keys = File::from(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap());
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let inside = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "terminal::leader", "--ignored", "--nocapture"])
            .env(BECOMES, env!("CARGO_BIN_EXE_dflock"));
        command
            .env("DFLOCK_SERVERS", server.addr().to_string())
            .env("DFLOCK_TEST_SCRIPT", script)
            .env("TERM", "xterm");
        command
            .stdin(inside.try_clone().unwrap())
            .stdout(inside.try_clone().unwrap())
            .stderr(inside);
        let dflock = command.spawn().unwrap();
        drop(command);
        let (said, shown) = channel();
        let mut screen = keys.try_clone().unwrap();
        // ends with the terminal
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if said.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            keys,
            shown,
            text: String::new(),
            dflock,
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(
            Pid::from_raw(self.dflock.id().cast_signed()).unwrap(),
            signal,
        )
        .unwrap();
    }

    /// Waits until `text` is shown, and gives all that was shown before it since it was last asked.
    fn sees(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text.find(text) {
                let rest = self.text.split_off(at + text.len());
                return std::mem::replace(&mut self.text, rest);
            }
            // a spinner is drawn again and again
            let left = until.saturating_duration_since(Instant::now());
            let more = self.shown.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Its exit status, and what was shown last, when nobody has the terminal any more.
    fn ends(mut self) -> (Option<i32>, String) {
        let status = self.dflock.wait().unwrap();
        loop {
            match self.shown.recv_timeout(PATIENCE) {
                Ok(more) => self.text.push_str(&String::from_utf8_lossy(&more)),
                Err(RecvTimeoutError::Disconnected) => {
                    return (status.code(), std::mem::take(&mut self.text));
                }
                Err(RecvTimeoutError::Timeout) => panic!("somebody still has the terminal"),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // it has ended already if this fails
        let _ = self.dflock.kill();
    }
}

/// No test: it begins a session of its own, and becomes `dflock`.
#[test]
#[ignore = "no test: the tests below run it in a terminal"]
fn leader() {
    let program = std::env::var_os(BECOMES).unwrap();
    setsid().unwrap();
    ioctl_tiocsctty(std::io::stdin()).unwrap();
    let script = std::env::var("DFLOCK_TEST_SCRIPT").unwrap();
    let error = Command::new(program)
        .args(["run", "--key", "job", "sh", "-c", &script])
        .exec();
    panic!("{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_reads_the_terminal_and_hears_a_key_once() {
    let server = Server::start().await.unwrap();
    // in some shells a signal ends a `read`, too
    let script = "trap 'echo interrupted' INT; trap 'echo used' USR1; echo 'what now?'; read line; echo \"read $line\"; \
                  until [ \"$line\" = that ]; do read line; done; echo over";
    let mut terminal = Terminal::run(&server, script);
    terminal.sees("what now?");
    terminal.type_in("this\n");
    terminal.sees("read this");
    terminal.type_in("\x03");
    terminal.sees("interrupted");
    // the key has sent it to `dflock` as well, which does not send it again
    terminal.signal(Signal::USR1);
    let before = terminal.sees("used");
    assert!(!before.contains("interrupted"), "{before}");
    // a process sends it to `dflock` alone
    terminal.signal(Signal::INT);
    terminal.sees("interrupted");
    terminal.type_in("that\n");
    let (status, rest) = terminal.ends();
    assert_eq!(status, Some(0), "{rest}");
    assert!(rest.contains("over"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_process_interrupts_the_command_in_the_foreground() {
    let server = Server::start().await.unwrap();
    for (signal, name) in [(Signal::INT, "INT"), (Signal::QUIT, "QUIT")] {
        let script = format!(
            "trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done"
        );
        let mut terminal = Terminal::run(&server, &script);
        terminal.sees("ready");
        terminal.signal(signal);
        terminal.sees(&format!("got {name}"));
        assert_eq!(terminal.ends().0, Some(7));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_run_that_waits_for_itself_names_the_key() {
    let server = Server::start().await.unwrap();
    let mut terminal = Terminal::run(
        &server,
        "exec \"$DFLOCK_TEST_LEADER\" run --key job echo ran",
    );
    terminal.sees("no slot of \"job\" is free");
    terminal.sees("waiting for a slot of job");
    terminal.type_in("\x03");
    assert_eq!(terminal.ends().0, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_place_in_line_is_shown() {
    let server = Server::start().await.unwrap();
    let held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let mut terminal = Terminal::run(&server, "echo done");
    terminal.sees("waiting for a slot of job: place 1 of 1 in line");
    held.release().await.unwrap();
    terminal.sees("done");
    assert_eq!(terminal.ends().0, Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_command_has_started_ends_with_the_slot() {
    let server = Server::start().await.unwrap();
    // the end of the terminal is no end for them
    let mut terminal = Terminal::run(&server, "trap '' HUP; sh -c 'echo ready; sleep 4242; :'; :");
    terminal.sees("ready");
    server.faults().disconnect("job");
    let (status, rest) = terminal.ends();
    assert_eq!(status, Some(76), "{rest}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_command_has_started_dies_with_dflock() {
    let server = Server::start().await.unwrap();
    // the end of the terminal is no end for them; one has lost its parent already
    let script = "trap '' HUP; (sh -c 'echo orphan $$,; exec sleep 4242' &); sh -c 'echo child $$,; sleep 4242; :'; :";
    let mut terminal = Terminal::run(&server, script);
    let mut pids = Vec::new();
    for _ in 0..2 {
        pids.push(
            terminal
                .sees(",")
                .rsplit_once(' ')
                .unwrap()
                .1
                .trim_end_matches(',')
                .to_owned(),
        );
    }
    terminal.signal(Signal::KILL);
    for pid in pids {
        is_gone(&pid).await;
    }
    assert_eq!(terminal.ends().0, None);
}
