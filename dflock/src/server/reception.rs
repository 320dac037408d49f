//! Lets connections in, gives each a session, and does what has to be done from time to time.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::Shared;
use super::session::Session;
use super::table::Table;
use crate::transport::BoxStream;

/// The pauses after an accept that failed: from the first to the longest, doubling.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Serves until the server drains and the last connection has ended. Dropped, it ends all connections at once.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: impl Listen,
    arrivals: mpsc::Sender<BoxStream>,
    mut arrived: mpsc::Receiver<BoxStream>,
) {
    let mut sweep = every(shared.config.lease_sweep_interval);
    let mut gc = every(shared.config.gc_interval);
    let mut sessions = JoinSet::new();
    {
        let mut accepting = pin!(accept(listener, arrivals, &shared));
        loop {
            // what comes from outside comes last, so that no crowd of clients keeps the rest from being done
            tokio::select! {
                biased;
                () = shared.draining.begun() => break,
                _ = sweep.tick() => shared.desk.everywhere(Table::sweep),
                _ = gc.tick() => shared.desk.everywhere(Table::gc),
                Some(_) = sessions.join_next() => {}
                Some(stream) = arrived.recv() => admit(stream, &shared, &mut sessions),
                never = &mut accepting => match never {},
            }
        }
    }
    // the listener is closed with the block above, and here those end that came too late; a queue that is dropped may keep some of them
    arrived.close();
    while arrived.recv().await.is_some() {}
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => shared.desk.everywhere(Table::sweep),
            ended = sessions.join_next() => if ended.is_none() { break },
        }
    }
}

fn admit(stream: BoxStream, shared: &Arc<Shared>, sessions: &mut JoinSet<()>) {
    // one too many: dropping its stream closes it
    let Some((visit, sent_away)) = shared.desk.welcome() else { return };
    let condition = Arc::clone(&shared.condition);
    let shared = Arc::clone(shared);
    let session = async move {
        // the visit ends with a handshake that fails
        let visit = visit;
        if let Some(stream) = secured(stream, &shared).await {
            Session::new(stream, visit, shared).run().await;
        }
    };
    sessions.spawn(async move {
        tokio::select! {
            biased;
            // when the visit is over there is still a last line to be written
            Ok(()) = sent_away => {}
            () = condition.unless_frozen(session) => {}
        }
    });
}

/// The stream with TLS over it, if there is to be any. `None`: the handshake fails or takes too long, or the server drains.
async fn secured(stream: BoxStream, shared: &Shared) -> Option<BoxStream> {
    let Some(tls) = &shared.config.tls else { return Some(stream) };
    tokio::select! {
        accepted = timeout(shared.config.read_timeout, tls.accept(stream)) => match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(limit = ?shared.config.read_timeout, "a TLS handshake took too long"),
        },
        () = shared.draining.begun() => {}
    }
    None
}

async fn accept(listener: impl Listen, arrivals: mpsc::Sender<BoxStream>, shared: &Shared) -> Infallible {
    let (first, longest) = BACK_OFF;
    let mut pause = first;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                pause = first;
                if !shared.condition.is_refusing() {
                    // the receiver outlives this future
                    let _ = arrivals.send(stream).await;
                }
            }
            Err(error) => {
                // most likely no file descriptor is free: trying at once would fail at once
                tracing::warn!(%error, ?pause, "cannot accept");
                sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}

/// Where connections come from.
pub(super) trait Listen: Send + Sync {
    fn accept(&self) -> impl Future<Output = io::Result<BoxStream>> + Send;
}

impl Listen for TcpListener {
    async fn accept(&self) -> io::Result<BoxStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // replies are written whole, there is nothing to wait for; a socket that cannot is as good
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }
}

/// Nobody comes from here.
pub(super) struct Nowhere;

impl Listen for Nowhere {
    async fn accept(&self) -> io::Result<BoxStream> {
        std::future::pending().await
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::server::Server;

    /// No file descriptor is ever free.
    struct Exhausted(Mutex<Vec<Instant>>);

    impl Listen for &Exhausted {
        async fn accept(&self) -> io::Result<BoxStream> {
            self.0.lock().unwrap().push(Instant::now());
            Err(io::Error::other("too many open files"))
        }
    }

    // S14
    #[tokio::test(start_paused = true)]
    async fn an_accept_that_fails_is_tried_again_later_and_later() {
        let server = Server::start().await.unwrap();
        let listener = Exhausted(Mutex::default());
        let minute = Duration::from_mins(1);
        assert!(timeout(minute, accept(&listener, server.arrivals.clone(), &server.shared)).await.is_err());
        let tries = listener.0.into_inner().unwrap();
        let pauses: Vec<_> = tries.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(pauses[..9], [5, 10, 20, 40, 80, 160, 320, 640, 1000]);
        assert!(pauses[9..].iter().all(|&pause| pause == 1000));
    }
}
