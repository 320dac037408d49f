//! Workers that share slots: Rust and Python, in each way to acquire a slot.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use dflock::{Client, Lock, Semaphore};
use tokio::io::{AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::program::{Program, lines};
use super::python::Python;

/// Timeout of a worker's wait in the queue.
const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The shared lock or semaphore.
#[derive(Clone, Copy, Debug)]
pub(super) enum Resource {
    Semaphore(&'static str, u32),
    Lock(&'static str),
}

impl Resource {
    pub(super) fn limit(self) -> usize {
        match self {
            Self::Semaphore(_, limit) => limit as usize,
            Self::Lock(_) => 1,
        }
    }

    /// Returns the number of waiters that the server reports.
    pub(super) async fn waiters(self, client: &Client) -> u64 {
        let stats = client.stats().await.unwrap().remove(0);
        match self {
            Self::Semaphore(key, _) => stats
                .semaphores
                .iter()
                .find(|pool| pool.key == key)
                .map_or(0, |pool| pool.waiters),
            Self::Lock(key) => stats
                .locks
                .iter()
                .find(|lock| lock.key == key)
                .map_or(0, |lock| lock.waiters),
        }
    }
}

/// Worker that acquires and releases a slot repeatedly.
#[expect(clippy::large_enum_variant, reason = "a test has a handful of workers")]
pub(super) enum Worker {
    Semaphore { pool: Semaphore, two_phase: bool },
    Lock { lock: Lock, two_phase: bool },
    Python(PythonWorker),
}

impl Worker {
    /// Returns one worker for each way to acquire a slot.
    pub(super) fn all(python: &Python, server: &Program, resource: Resource) -> Vec<Self> {
        let mut workers = Vec::new();
        for two_phase in [false, true] {
            workers.push(Self::rust(&server.client(), resource, two_phase));
            for client in ["sync", "async"] {
                workers.push(Self::Python(PythonWorker::start(
                    python, server, resource, client, two_phase,
                )));
            }
        }
        workers
    }

    pub(super) fn rust(client: &Client, resource: Resource, two_phase: bool) -> Self {
        let client = client.clone();
        match resource {
            Resource::Semaphore(key, limit) => {
                let pool = Semaphore::builder()
                    .key(key)
                    .limit(limit)
                    .acquire_timeout(WAIT_TIMEOUT)
                    .client(client)
                    .build()
                    .unwrap();
                Self::Semaphore { pool, two_phase }
            }
            Resource::Lock(key) => {
                let lock = Lock::builder()
                    .key(key)
                    .acquire_timeout(WAIT_TIMEOUT)
                    .client(client)
                    .build()
                    .unwrap();
                Self::Lock { lock, two_phase }
            }
        }
    }

    /// Acquires a slot, awaits `inside` and releases the slot.
    pub(super) async fn cycle(&mut self, inside: impl Future<Output = ()>) {
        match self {
            Self::Semaphore {
                pool,
                two_phase: false,
            } => pool.with_slot(async |_| inside.await).await.unwrap(),
            Self::Lock {
                lock,
                two_phase: false,
            } => lock.with_slot(async |_| inside.await).await.unwrap(),
            Self::Semaphore {
                pool,
                two_phase: true,
            } => {
                let held = pool.clone().enqueue().await.unwrap().wait().await.unwrap();
                inside.await;
                held.release().await.unwrap();
            }
            Self::Lock {
                lock,
                two_phase: true,
            } => {
                let held = lock.clone().enqueue().await.unwrap().wait().await.unwrap();
                inside.await;
                held.release().await.unwrap();
            }
            Self::Python(worker) => {
                worker.acquire().await;
                inside.await;
                worker.release().await;
            }
        }
    }
}

/// Process of `worker.py` that is killed on drop.
pub(super) struct PythonWorker {
    child: Child,
    commands: ChildStdin,
    replies: Lines<BufReader<ChildStdout>>,
}

impl PythonWorker {
    pub(super) fn start(
        python: &Python,
        server: &Program,
        resource: Resource,
        client: &str,
        two_phase: bool,
    ) -> Self {
        let mut command = python.script("worker.py");
        command.args(["--servers", &server.addr.to_string(), "--client", client]);
        match resource {
            Resource::Semaphore(key, limit) => {
                command.args(["--key", key, "--limit", &limit.to_string()])
            }
            Resource::Lock(key) => command.args(["--key", key]),
        };
        if two_phase {
            command.arg("--two-phase");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, replies) = (
            child.stdin.take().unwrap(),
            lines(child.stdout.take().unwrap()),
        );
        Self {
            child,
            commands,
            replies,
        }
    }

    pub(super) async fn acquire(&mut self) {
        let reply = self.command("acquire\n").await;
        assert!(reply.starts_with("held "), "{reply}");
    }

    pub(super) async fn release(&mut self) {
        assert_eq!(self.command("release\n").await, "released");
    }

    pub(super) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    async fn command(&mut self, command: &str) -> String {
        self.commands.write_all(command.as_bytes()).await.unwrap();
        self.replies
            .next_line()
            .await
            .unwrap()
            .expect("the worker does not reply")
    }
}
