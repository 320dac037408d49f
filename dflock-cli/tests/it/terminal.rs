//! `dflock run` in the foreground of a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use dflock::server::Server;
use dflock::{Client, Enqueued};
use dflock_tests::etcd_cluster::shared_cluster;
use rustix::process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::etcd::servers;
#[cfg(target_os = "linux")]
use crate::process::wait_until_gone;
use crate::process::{DFLOCK, TIMEOUT, acquire, hold, reset_ignored_signals};

/// The environment variable with the program that [`session_leader`] executes.
const PROGRAM_VARIABLE: &str = "DFLOCK_TEST_PROGRAM";

/// A pseudoterminal with `dflock` in its foreground, and the output of the terminal.
pub(crate) struct Terminal {
    keys: File,
    output: Receiver<Vec<u8>>,
    text: String,
    dflock: Child,
}

impl Terminal {
    /// Starts `dflock run` in the foreground of a new terminal.
    fn run(server: &Server, script: &str) -> Self {
        Self::run_with(&[("DFLOCK_SERVERS", &server.addr().to_string())], script)
    }

    /// Like [`run`](Self::run), with these variables in its environment.
    pub(crate) fn run_with(variables: &[(&str, &str)], script: &str) -> Self {
        reset_ignored_signals();
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
            .args([
                "--exact",
                "terminal::session_leader",
                "--ignored",
                "--nocapture",
            ])
            .env(PROGRAM_VARIABLE, DFLOCK);
        command
            .envs(variables.iter().copied())
            .env("DFLOCK_TEST_SCRIPT", script)
            .env("TERM", "xterm");
        command
            .stdin(inside.try_clone().unwrap())
            .stdout(inside.try_clone().unwrap())
            .stderr(inside);
        let dflock = command.spawn().unwrap();
        drop(command);
        let (sender, output) = channel();
        let mut screen = keys.try_clone().unwrap();
        // The thread ends when the terminal is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            keys,
            output,
            text: String::new(),
            dflock,
        }
    }

    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(
            Pid::from_raw(self.dflock.id().cast_signed()).unwrap(),
            signal,
        )
        .unwrap();
    }

    /// Waits until `text` is printed. Returns the output since the last call, up to and including
    /// `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(at) = self.text.find(text) {
                let rest = self.text.split_off(at + text.len());
                return std::mem::replace(&mut self.text, rest);
            }
            // A total limit: a spinner prints forever, so a limit for each read would never pass.
            let left = deadline.saturating_duration_since(Instant::now());
            let more = self.output.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Waits until `dflock` has ended and no process has the terminal open. Returns the exit code
    /// and the rest of the output.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.dflock.wait().unwrap();
        loop {
            match self.output.recv_timeout(TIMEOUT) {
                Ok(more) => self.text.push_str(&String::from_utf8_lossy(&more)),
                Err(RecvTimeoutError::Disconnected) => {
                    return (status.code(), std::mem::take(&mut self.text));
                }
                Err(RecvTimeoutError::Timeout) => panic!("a process still has the terminal open"),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Fails if `dflock` has ended.
        let _ = self.dflock.kill();
    }
}

/// Not a test: creates a new session, takes the terminal and becomes `dflock`.
#[test]
#[ignore = "not a test: `Terminal::run` starts it in a terminal"]
fn session_leader() {
    let program = std::env::var_os(PROGRAM_VARIABLE).unwrap();
    setsid().unwrap();
    ioctl_tiocsctty(std::io::stdin()).unwrap();
    let script = std::env::var("DFLOCK_TEST_SCRIPT").unwrap();
    let error = Command::new(program)
        .args(["run", "--key", "job", "sh", "-c", &script])
        .exec();
    panic!("{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_reads_the_terminal_and_gets_one_signal_for_a_key() {
    let server = Server::start().await.unwrap();
    // The loop is needed because in some shells a signal interrupts `read`.
    let script = "trap 'echo interrupted' INT; trap 'echo used' USR1; echo 'what now?'; \
                  read line; echo \"read $line\"; \
                  until [ \"$line\" = that ]; do read line; done; echo over";
    let mut terminal = Terminal::run(&server, script);
    terminal.wait_for("what now?");
    terminal.type_keys("this\n");
    terminal.wait_for("read this");
    terminal.type_keys("\x03");
    terminal.wait_for("interrupted");
    // The key has signaled `dflock` as well, which must not forward the signal.
    terminal.signal(Signal::USR1);
    let before = terminal.wait_for("used");
    assert!(!before.contains("interrupted"), "{before}");
    // This signal goes to `dflock` only, which forwards it.
    terminal.signal(Signal::INT);
    terminal.wait_for("interrupted");
    terminal.type_keys("that\n");
    let (status, rest) = terminal.wait();
    assert_eq!(status, Some(0), "{rest}");
    assert!(rest.contains("over"), "{rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_signal_from_a_process_is_forwarded_in_the_foreground() {
    let server = Server::start().await.unwrap();
    for (signal, name) in [(Signal::INT, "INT"), (Signal::QUIT, "QUIT")] {
        let script = format!(
            "trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done"
        );
        let mut terminal = Terminal::run(&server, &script);
        terminal.wait_for("ready");
        terminal.signal(signal);
        terminal.wait_for(&format!("got {name}"));
        assert_eq!(terminal.wait().0, Some(7));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_nested_run_that_waits_for_itself_prints_the_key() {
    let server = Server::start().await.unwrap();
    let mut terminal = Terminal::run(
        &server,
        "exec \"$DFLOCK_TEST_PROGRAM\" run --key job echo ran",
    );
    terminal.wait_for("no slot of \"job\" is free");
    terminal.wait_for("waiting for a slot of job");
    terminal.type_keys("\x03");
    assert_eq!(terminal.wait().0, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_queue_position_is_shown() {
    let server = Server::start().await.unwrap();
    let held = hold(&server).await;
    let mut terminal = Terminal::run(&server, "echo done");
    terminal.wait_for("waiting for a slot of job: position 1 of 1 in the queue");
    held.release().await.unwrap();
    terminal.wait_for("done");
    assert_eq!(terminal.wait().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_exact_queue_position_is_shown_on_etcd() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let servers = servers(cluster);
    let client = Client::builder().servers(servers.split(','));
    let client = client.build().unwrap();
    let held = acquire(&client, "job", 1).await;
    let Enqueued::Queued(first) = client.semaphore("job", 1).unwrap().enqueue().await.unwrap()
    else {
        panic!("two hold the only slot");
    };
    let mut terminal = Terminal::run_with(&[("DFLOCK_SERVERS", &servers)], "echo done");
    terminal.wait_for("waiting for a slot of job: position 2 in the queue");
    drop(first.close());
    terminal.wait_for("waiting for a slot of job: position 1 in the queue");
    held.release().await.unwrap();
    terminal.wait_for("done");
    assert_eq!(terminal.wait().0, Some(0));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn descendants_of_the_command_are_terminated_when_the_slot_is_lost() {
    let server = Server::start().await.unwrap();
    // The processes ignore the SIGHUP at the end of the terminal.
    let mut terminal = Terminal::run(&server, "trap '' HUP; sh -c 'echo ready; sleep 4242; :'; :");
    terminal.wait_for("ready");
    server.faults().disconnect("job");
    let (status, rest) = terminal.wait();
    assert_eq!(status, Some(76), "{rest}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn descendants_of_the_command_are_killed_with_dflock() {
    let server = Server::start().await.unwrap();
    // The processes ignore the SIGHUP at the end of the terminal. One has lost its parent already.
    let script = "trap '' HUP; (sh -c 'echo orphan $$,; exec sleep 4242' &); \
                  sh -c 'echo child $$,; sleep 4242; :'; :";
    let mut terminal = Terminal::run(&server, script);
    let mut pids = Vec::new();
    for _ in 0..2 {
        pids.push(
            terminal
                .wait_for(",")
                .rsplit_once(' ')
                .unwrap()
                .1
                .trim_end_matches(',')
                .to_owned(),
        );
    }
    terminal.signal(Signal::KILL);
    for pid in pids {
        wait_until_gone(&pid).await;
    }
    assert_eq!(terminal.wait().0, None);
}
