//! Those who wait in line for every key, directly at the server: no fault hits them, so nothing excuses the server or the others if
//! they do not get their turn.

use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::fleet::clock::now;
use dflock_tests::fleet::raw::Raw;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::event::{Event, What};
use crate::key::Key;
use crate::timeline::{Book, Wait};

/// How long a probe holds a slot, and how long it then stays out of the line.
const PACE: Duration = Duration::from_millis(20);

/// A wait that no run outlasts, in seconds.
const EVER: u64 = 100_000;

pub(crate) struct Probe {
    /// Whom it is in the timeline.
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) about: &'static Key,
    pub(crate) book: Book,
}

impl Probe {
    /// Waits and holds in turns, wherever the server is.
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

    /// `None`: the connection has ended.
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
        // the grant may be as old as it likes: the slot is held from its renewal on
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

/// A wait, which is written down however it ends: the longest is the one in vain.
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
