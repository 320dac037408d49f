//! A peer that plays a script: what it must hear, and what it says, byte for byte.
//!
//! A script is the transcript of one connection; a peer is given one for each connection that it expects.
//!
//! ```ignore
//! let peer = Peer::tcp([vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)]]).await;
//! peer.pool().acquire().await.unwrap().release().await.unwrap();
//! peer.finish().await; // every step was played, and nothing else was heard
//! ```

mod door;
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

use door::{Door, Entrance};
pub(crate) use script::*;

/// Longer than any script takes: only a test that fails waits for it.
const TOO_LONG: Duration = Duration::from_secs(20);

/// A scripted server, in memory or on a free port. It ends with the value.
pub(crate) struct Peer {
    entrance: Entrance,
    stage: Arc<Stage>,
    scripts: usize,
    play: JoinHandle<()>,
}

/// What the peer and its test tell each other.
pub(crate) struct Stage {
    connections: AtomicUsize,
    played: Permits,
    told: Permits,
    cues: Permits,
    flooded: AtomicUsize,
}

impl Peer {
    /// Listens on a free port.
    pub(crate) async fn tcp(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), scripts)
    }

    /// Listens where the test does already.
    pub(crate) fn on(listener: TcpListener, scripts: impl IntoIterator<Item = Script>) -> Self {
        let (entrance, door) = Entrance::on(listener);
        Self::start(entrance, door, scripts)
    }

    /// Is reached through memory, so that the clock may be paused.
    pub(crate) fn memory(scripts: impl IntoIterator<Item = Script>) -> Self {
        let (entrance, door) = Entrance::memory(64 * 1024);
        Self::start(entrance, door, scripts)
    }

    /// The same, with room for one byte each way: every read and every write carries one.
    pub(crate) fn byte_by_byte(scripts: impl IntoIterator<Item = Script>) -> Self {
        let (entrance, door) = Entrance::memory(1);
        Self::start(entrance, door, scripts)
    }

    fn start(entrance: Entrance, door: Door, scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts: Vec<_> = scripts.into_iter().collect();
        let none = || Permits::new(0);
        let stage = Stage {
            connections: 0.into(),
            played: none(),
            told: none(),
            cues: none(),
            flooded: 0.into(),
        };
        let stage = Arc::new(stage);
        Self {
            entrance,
            scripts: scripts.len(),
            play: tokio::spawn(play(door, scripts, stage.clone())),
            stage,
        }
    }

    /// The options of a client of this peer.
    pub(crate) fn builder(&self) -> ClientBuilder {
        self.entrance.builder()
    }

    /// Connects to it through memory.
    pub(crate) fn connector(&self) -> Box<dyn Connector> {
        self.entrance.connector()
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.entrance.address()
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// The semaphore that the lines of [`script`] are about, on a client of its own.
    pub(crate) fn pool(&self) -> Semaphore {
        self.client().semaphore("pool", 1).unwrap()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.stage.connections.load(Ordering::SeqCst)
    }

    /// How many bytes the client took of a [`flood`].
    pub(crate) fn flooded(&self) -> usize {
        self.stage.flooded.load(Ordering::SeqCst)
    }

    /// Waits until the script has come to its next [`tell`].
    pub(crate) async fn told(&self) {
        timeout(TOO_LONG, self.stage.told.acquire())
            .await
            .expect("the script does not tell")
            .unwrap()
            .forget();
    }

    /// Lets the script go on behind its next [`cue`].
    pub(crate) fn cue(&self) {
        self.stage.cues.add_permits(1);
    }

    /// Waits until every script was played to its end; fails when anything else was heard.
    pub(crate) async fn finish(mut self) {
        let scripts = u32::try_from(self.scripts).unwrap();
        tokio::select! {
            biased;
            ended = &mut self.play => resume_unwind(ended.unwrap_err().into_panic()),
            played = timeout(TOO_LONG, self.stage.played.acquire_many(scripts)) => assert!(played.is_ok(), "scripts are not played to their end"),
        }
        assert_eq!(self.connections(), self.scripts);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.play.abort();
    }
}

/// Never ends by itself; panics when a script is not kept to.
async fn play(mut door: Door, scripts: Vec<Script>, stage: Arc<Stage>) {
    let mut acts = JoinSet::new();
    let mut scripts = scripts.into_iter();
    loop {
        tokio::select! {
            Some(ended) = acts.join_next() => if let Err(error) = ended { resume_unwind(error.into_panic()) },
            socket = door.open() => {
                stage.connections.fetch_add(1, Ordering::SeqCst);
                let script = scripts.next().expect("a connection that no script expects");
                acts.spawn(act(script, socket, stage.clone()));
            }
        }
    }
}
