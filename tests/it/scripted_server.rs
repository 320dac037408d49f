//! A server that runs a script: the bytes it must receive, and the bytes it sends.
//!
//! A script is the transcript of one connection. The server takes one script for each connection
//! that it expects.
//!
//! ```ignore
//! let script = vec![expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)];
//! let server = ScriptedServer::tcp([script]).await;
//! server.pool().acquire().await.unwrap().release().await.unwrap();
//! server.finish().await; // Every step ran, and no other byte was received.
//! ```

mod endpoint;
mod script;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dflock::{Client, ClientBuilder, Connector, Semaphore};
use tokio::net::TcpListener;
use tokio::sync::Semaphore as Permits;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use endpoint::{Listener, Target};
pub(crate) use script::*;

/// Limit of every wait for a script. It is longer than any script runs.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A scripted server, in memory or on a free port. Dropping it stops it.
pub(crate) struct ScriptedServer {
    target: Target,
    checkpoints: Arc<Checkpoints>,
    scripts: usize,
    task: JoinHandle<()>,
}

/// State shared by the scripts and the test, which synchronises them.
pub(crate) struct Checkpoints {
    connections: AtomicUsize,
    /// One permit for each completed script.
    completed: Permits,
    /// One permit for each [`checkpoint`] that a script has reached.
    reached: Permits,
    /// One permit for each call of [`ScriptedServer::resume`].
    resumed: Permits,
    flooded: AtomicUsize,
}

impl ScriptedServer {
    /// Listens on a free port.
    pub(crate) async fn tcp(scripts: impl IntoIterator<Item = Script>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::from_listener(listener, scripts)
    }

    /// Accepts connections from `listener`.
    pub(crate) fn from_listener(
        listener: TcpListener,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Self {
        let (target, listener) = Target::tcp(listener);
        Self::start(target, listener, scripts)
    }

    /// Accepts connections through memory, so that the test can pause the clock.
    pub(crate) fn memory(scripts: impl IntoIterator<Item = Script>) -> Self {
        let (target, listener) = Target::memory(64 * 1024);
        Self::start(target, listener, scripts)
    }

    /// Accepts connections through memory with a buffer of one byte in each direction.
    ///
    /// Every read and every write transfers one byte.
    pub(crate) fn byte_by_byte(scripts: impl IntoIterator<Item = Script>) -> Self {
        let (target, listener) = Target::memory(1);
        Self::start(target, listener, scripts)
    }

    fn start(
        target: Target,
        listener: Listener,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Self {
        let scripts: Vec<_> = scripts.into_iter().collect();
        let none = || Permits::new(0);
        let checkpoints = Arc::new(Checkpoints {
            connections: 0.into(),
            completed: none(),
            reached: none(),
            resumed: none(),
            flooded: 0.into(),
        });
        Self {
            target,
            scripts: scripts.len(),
            task: tokio::spawn(serve(listener, scripts, checkpoints.clone())),
            checkpoints,
        }
    }

    /// Returns the options of a client of this server.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.target.builder()
    }

    /// Returns a connector that reaches the server through memory.
    pub(crate) fn connector(&self) -> Box<dyn Connector> {
        self.target.connector()
    }

    /// Returns the address as `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.target.address()
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// Returns the semaphore of the lines in [`script`], on a new client.
    pub(crate) fn pool(&self) -> Semaphore {
        self.client().semaphore("pool", 1).unwrap()
    }

    /// Returns the number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.checkpoints.connections.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes of a [`flood`] that the client has read.
    pub(crate) fn flooded(&self) -> usize {
        self.checkpoints.flooded.load(Ordering::SeqCst)
    }

    /// Waits until a script has reached its next [`checkpoint`].
    pub(crate) async fn reached(&self) {
        timeout(TEST_TIMEOUT, self.checkpoints.reached.acquire())
            .await
            .expect("the script does not reach its checkpoint")
            .unwrap()
            .forget();
    }

    /// Polls `call` until a script has reached its next [`checkpoint`], and drops it.
    ///
    /// Panics when `call` ends before that.
    pub(crate) async fn cancel_at_checkpoint(&self, call: impl Future) {
        tokio::select! {
            biased;
            _ = call => panic!("there is no reply yet"),
            () = self.reached() => {}
        }
    }

    /// Lets a script continue after its next [`wait_for_test`].
    pub(crate) fn resume(&self) {
        self.checkpoints.resumed.add_permits(1);
    }

    /// Waits until every script has completed, and panics when the client sent anything else.
    pub(crate) async fn finish(mut self) {
        let scripts = u32::try_from(self.scripts).unwrap();
        let completed = self.checkpoints.completed.acquire_many(scripts);
        tokio::select! {
            biased;
            ended = &mut self.task => resume_unwind(ended.unwrap_err().into_panic()),
            completed = timeout(TEST_TIMEOUT, completed) => {
                assert!(completed.is_ok(), "a script has not completed");
            }
        }
        assert_eq!(self.connections(), self.scripts);
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs one script on each connection, without end. Panics when a client deviates from its script.
async fn serve(mut listener: Listener, scripts: Vec<Script>, checkpoints: Arc<Checkpoints>) {
    let mut running = JoinSet::new();
    let mut scripts = scripts.into_iter();
    loop {
        tokio::select! {
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    resume_unwind(error.into_panic())
                }
            }
            socket = listener.accept() => {
                checkpoints.connections.fetch_add(1, Ordering::SeqCst);
                let script = scripts.next().expect("a connection that no script expects");
                running.spawn(run(script, socket, checkpoints.clone()));
            }
        }
    }
}
