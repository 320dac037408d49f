//! Waiters for each key that connect to the server directly. No fault of a client affects them, so
//! a probe that does not get its turn shows a leak.

use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::harness::clock::now;
use dflock_tests::harness::raw_client::RawClient;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::event::{Event, EventKind};
use crate::key::Key;
use crate::timeline::{SharedTimeline, Wait};

/// Time for which a probe holds a slot, and time until it enqueues again.
const INTERVAL: Duration = Duration::from_millis(20);

/// A wait longer than any run, in seconds.
const LONG_WAIT: u64 = 100_000;

pub(crate) struct Probe {
    /// Number of the probe among the clients in the timeline.
    pub(crate) client: usize,
    pub(crate) key: usize,
    pub(crate) settings: &'static Key,
    pub(crate) timeline: SharedTimeline,
}

impl Probe {
    /// Waits for a slot and holds it in turns, on the current server.
    pub(crate) async fn run(self, server: watch::Receiver<SocketAddr>) {
        loop {
            let addr = *server.borrow();
            if let Ok(mut raw) = RawClient::connect(addr).await {
                while self.step(&mut raw).await.is_some() {
                    sleep(INTERVAL).await;
                }
            }
            sleep(INTERVAL).await;
        }
    }

    /// Waits for a slot and holds it once. Returns `None` when the connection ends.
    async fn step(&self, raw: &mut RawClient) -> Option<()> {
        let Key {
            name, limit, lease, ..
        } = *self.settings;
        let guard = WaitGuard {
            probe: self,
            from: now(),
        };
        let token = raw.acquire(name, LONG_WAIT, limit, lease).await;
        drop(guard);
        let token = token.ok()??;
        // The grant may have arrived late. The slot is certain to be held only from its renewal on.
        let renewed = now();
        let is_held = raw
            .request("sn", name, &format!("{token} {lease}"))
            .await
            .ok()?
            .starts_with("ok");
        let first = now();
        if is_held {
            sleep(INTERVAL).await;
            let last = now();
            let ends = renewed + Duration::from_secs(lease);
            let mut timeline = self.timeline.lock();
            let mut report = |at, kind| {
                timeline.add(
                    self.client,
                    Event::Slot {
                        name: token.clone(),
                        at,
                        kind,
                    },
                );
            };
            report(first, EventKind::Held { key: self.key });
            report(first, EventKind::Confirmed { ends: Some(ends) });
            report(
                last.min(ends).max(first),
                EventKind::Confirmed { ends: Some(ends) },
            );
            report(last, EventKind::GivenUp);
        }
        raw.request("sr", name, &token).await.ok()?;
        Some(())
    }
}

/// Guard that records a wait however it ends. A wait without a grant is the most important one.
struct WaitGuard<'a> {
    probe: &'a Probe,
    from: Duration,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.probe.timeline.lock().waits.push(Wait {
            key: self.probe.key,
            from: self.from,
            to: now(),
        });
    }
}
