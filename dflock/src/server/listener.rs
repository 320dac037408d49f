//! Accept task: accepts connections, runs a session for each, sweeps leases and collects idle keys.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use super::session::Session;
use super::shared::Shared;
use super::table::Table;
use crate::engine::dflockd::BoxStream;

/// First and longest pause after an accept that failed; each pause is twice the one before.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Serves connections until the server shuts down and the last connection ends.
///
/// # Cancel safety
///
/// A cancelled call closes all connections.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: impl Listener,
    // Accepted sockets are sent to `incoming`, where in-memory connections arrive, too.
    sender: Sender<BoxStream>,
    mut incoming: Receiver<BoxStream>,
) {
    let registry = &shared.registry;
    let mut sweep = delayed_interval(shared.config.lease_sweep_interval);
    let mut gc = delayed_interval(shared.config.gc_interval);
    let mut sessions = JoinSet::new();
    {
        let mut accept = pin!(accept(listener, sender, &shared));
        loop {
            // New connections come last, so that a crowd of clients cannot delay the other work.
            tokio::select! {
                biased;
                () = shared.control.wait_for_shutdown() => break,
                _ = sweep.tick() => registry.with_table(Table::sweep),
                _ = gc.tick() => registry.with_table(Table::gc),
                Some(_) = sessions.join_next() => {}
                Some(stream) = incoming.recv() => spawn_session(stream, &shared, &mut sessions),
                never = &mut accept => match never {},
            }
        }
    }
    // The listener was dropped with `accept`. Drop the connections that were accepted and have no
    // session yet; without `recv`, the channel would keep them until its last sender is dropped.
    incoming.close();
    while incoming.recv().await.is_some() {}
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => registry.with_table(Table::sweep),
            ended = sessions.join_next() => if ended.is_none() { break },
        }
    }
}

fn spawn_session(stream: BoxStream, shared: &Arc<Shared>, sessions: &mut JoinSet<()>) {
    // Above `max_connections` the stream is dropped, which closes it.
    let Some((guard, closed)) = shared.registry.register() else {
        return;
    };
    let control = Arc::clone(&shared.control);
    let shared = Arc::clone(shared);
    let session = async move {
        // Move the guard into this future, so that a failed handshake drops it.
        let guard = guard;
        if let Some(stream) = accept_tls(stream, &shared).await {
            Session::new(stream, guard, shared).run().await;
        }
    };
    sessions.spawn(async move {
        tokio::select! {
            biased;
            // `Err` means that the guard was dropped; the session still writes its last replies.
            Ok(()) = closed => {}
            () = control.pause_while_frozen(session) => {}
        }
    });
}

/// Performs the TLS handshake, if the server uses TLS. Returns `None` when the handshake fails,
/// times out or is interrupted by a shutdown.
async fn accept_tls(stream: BoxStream, shared: &Shared) -> Option<BoxStream> {
    let Some(tls) = &shared.config.tls else {
        return Some(stream);
    };
    let limit = shared.config.read_timeout;
    tokio::select! {
        accepted = timeout(limit, tls.accept(stream)) => match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!(?limit, "TLS handshake timed out"),
        },
        () = shared.control.wait_for_shutdown() => {}
    }
    None
}

async fn accept(listener: impl Listener, sender: Sender<BoxStream>, shared: &Shared) -> Infallible {
    let (first, longest) = BACKOFF;
    let mut pause = first;
    loop {
        match listener.accept().await {
            Ok(stream) => {
                pause = first;
                if !shared.control.refuses_connections() {
                    // Cannot fail: the receiver outlives this future.
                    let _ = sender.send(stream).await;
                }
            }
            Err(error) => {
                // Most likely the process has no free file descriptor. An immediate retry would
                // fail again and keep a core busy.
                tracing::warn!(%error, ?pause, "accept failed");
                sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}

/// Source of connections.
pub(super) trait Listener: Send + Sync {
    fn accept(&self) -> impl Future<Output = io::Result<BoxStream>> + Send;
}

impl Listener for TcpListener {
    async fn accept(&self) -> io::Result<BoxStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // Replies are written whole, so a delay gains nothing. A socket without this option works.
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }
}

/// Listener that never accepts a connection.
pub(super) struct NoListener;

impl Listener for NoListener {
    async fn accept(&self) -> io::Result<BoxStream> {
        std::future::pending().await
    }
}

/// Returns an interval that, after a missed tick, waits a whole `period` for the next one.
fn delayed_interval(period: Duration) -> Interval {
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

    /// Listener of a process without a free file descriptor.
    struct Exhausted(Mutex<Vec<Instant>>);

    impl Listener for &Exhausted {
        async fn accept(&self) -> io::Result<BoxStream> {
            self.0.lock().unwrap().push(Instant::now());
            Err(io::Error::other("too many open files"))
        }
    }

    // S14
    #[tokio::test(start_paused = true)]
    async fn accept_backs_off_after_errors() {
        let server = Server::start().await.unwrap();
        let listener = Exhausted(Mutex::default());
        let minute = Duration::from_mins(1);
        let accept = accept(&listener, server.incoming.clone(), &server.shared);
        assert!(timeout(minute, accept).await.is_err());
        let tries = listener.0.into_inner().unwrap();
        let pauses: Vec<_> = tries
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis())
            .collect();
        assert_eq!(pauses[..9], [5, 10, 20, 40, 80, 160, 320, 640, 1000]);
        assert!(pauses[9..].iter().all(|&pause| pause == 1000));
    }
}
