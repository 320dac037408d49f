//! Waiters for each key that connect to the server directly. No fault of a client affects them, so
//! a probe that does not get its turn shows a leak.

use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::fleet::clock::now;
use dflock_tests::fleet::raw::Raw;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::event::{Event, What};
use crate::key::Key;
use crate::timeline::{Book, Wait};

/// Time for which a probe holds a slot, and time until it enqueues again.
const PACE: Duration = Duration::from_millis(20);

/// A wait longer than any run, in seconds.
const EVER: u64 = 100_000;

pub(crate) struct Probe {
    /// Number of the probe among the clients in the timeline.
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) about: &'static Key,
    pub(crate) book: Book,
}

impl Probe {
    /// Waits for a slot and holds it in turns, on the current server.
    pub(crate) async fn run(self, server: watch::Receiver<SocketAddr>) {
        loop {
            let addr = *server.borrow();
            if let Ok(mut raw) = Raw::connect(addr).await {
                while self.turn(&mut raw).await.is_some() {
                    sleep(PACE).await;
                }
            }
            sleep(PACE).await;
        }
    }

    /// Waits for a slot and holds it once. Returns `None` when the connection ends.
    async fn turn(&self, raw: &mut Raw) -> Option<()> {
        let Key {
            name, limit, lease, ..
        } = *self.about;
        let waiting = Waiting {
            probe: self,
            from: now(),
        };
        let token = raw.acquire(name, EVER, limit, lease).await;
        drop(waiting);
        let token = token.ok()??;
        // The grant may have arrived late. The slot is certain to be held only from its renewal on.
        let renewed = now();
        let is_held = raw
            .ask("sn", name, &format!("{token} {lease}"))
            .await
            .ok()?
            .starts_with("ok");
        let first = now();
        if is_held {
            sleep(PACE).await;
            let last = now();
            let ends = renewed + Duration::from_secs(lease);
            let mut timeline = self.book.open();
            let mut say = |at, what| {
                timeline.note(
                    self.client,
                    Event::Slot {
                        name: token.clone(),
                        at,
                        what,
                    },
                );
            };
            say(first, What::Held { key: self.key });
            say(first, What::Sure { ends: Some(ends) });
            say(last.min(ends).max(first), What::Sure { ends: Some(ends) });
            say(last, What::Given);
        }
        raw.ask("sr", name, &token).await.ok()?;
        Some(())
    }
}

/// Guard that records a wait however it ends. A wait without a grant is the most important one.
struct Waiting<'a> {
    probe: &'a Probe,
    from: Duration,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.probe.book.open().waits.push(Wait {
            key: self.probe.key,
            from: self.from,
            to: now(),
        });
    }
}
