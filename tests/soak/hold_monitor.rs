//! Monitor of the holds of a client process. It reports their state to the parent.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dflock::{Held, Semaphore};
use dflock_tests::harness::clock::now;

use crate::event::{Event, EventKind};

/// Interval between two checks of a hold.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// Checks all holds on a separate thread, which runs even while the executor under test does not.
#[derive(Default)]
pub(crate) struct HoldMonitor {
    holds: Mutex<BTreeMap<String, Arc<Semaphore<Held>>>>,
}

impl HoldMonitor {
    pub(crate) fn start() -> Arc<Self> {
        let monitor = Arc::new(Self::default());
        let monitored = monitor.clone();
        thread::spawn(move || {
            loop {
                monitored.holds().retain(|_, held| check(held));
                thread::sleep(CHECK_INTERVAL);
            }
        });
        monitor
    }

    /// Reports and checks a hold of `key` until [`stop`](Self::stop).
    pub(crate) fn watch(&self, key: usize, held: Semaphore<Held>) -> Arc<Semaphore<Held>> {
        report_start(key, &held);
        let held = Arc::new(held);
        self.holds().insert(name(&held).to_owned(), held.clone());
        held
    }

    /// Stops checking a hold that is about to be given up. Returns `None` if another reference
    /// exists.
    pub(crate) fn stop(&self, held: Arc<Semaphore<Held>>) -> Option<Semaphore<Held>> {
        let mut holds = self.holds();
        holds.remove(name(&held));
        report_end(&held);
        Arc::into_inner(held)
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Semaphore<Held>>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports a new hold.
pub(crate) fn report_start(key: usize, held: &Held) {
    report(name(held), now(), EventKind::Held { key });
    check(held);
}

/// Checks a hold and reports the result. Returns whether the slot is held.
pub(crate) fn check(held: &Held) -> bool {
    let before = now();
    let is_held = held.check().is_ok();
    if is_held {
        report(
            name(held),
            before,
            EventKind::Confirmed {
                ends: Some(before + held.remaining()),
            },
        );
    } else {
        report(name(held), now(), EventKind::Lost);
    }
    is_held
}

/// Reports that a slot is about to be given up.
pub(crate) fn report_end(held: &Held) {
    if check(held) {
        report(name(held), now(), EventKind::GivenUp);
    }
}

/// Reports an event of the slot `name`.
pub(crate) fn report(name: &str, at: Duration, kind: EventKind) {
    send(&Event::Slot {
        name: name.to_owned(),
        at,
        kind,
    });
}

/// Sends an event to the parent.
pub(crate) fn send(event: &Event) {
    // Without a parent process the client has no purpose.
    if writeln!(std::io::stdout(), "{event}").is_err() {
        std::process::exit(1);
    }
}

/// Returns the token as the unique name of the slot.
fn name(held: &Held) -> &str {
    held.token().as_str()
}
