//! Monitor of the holds of a client process. It reports their state to the parent.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dflock::{Held, Semaphore};
use dflock_tests::fleet::clock::now;

use crate::event::{Event, What};

/// Interval between two checks of a hold.
const PACE: Duration = Duration::from_millis(1);

/// Checks all holds on a thread of its own, and so also at times at which the executor under test
/// does not run.
#[derive(Default)]
pub(crate) struct Witness {
    holds: Mutex<BTreeMap<String, Arc<Semaphore<Held>>>>,
}

impl Witness {
    pub(crate) fn start() -> Arc<Self> {
        let witness = Arc::new(Self::default());
        let watching = witness.clone();
        thread::spawn(move || {
            loop {
                watching.holds().retain(|_, held| sure(held));
                thread::sleep(PACE);
            }
        });
        witness
    }

    /// Reports and checks a hold of `key` until [`stop`](Self::stop).
    pub(crate) fn watch(&self, key: usize, held: Semaphore<Held>) -> Arc<Semaphore<Held>> {
        begin(key, &held);
        let held = Arc::new(held);
        self.holds().insert(name(&held).to_owned(), held.clone());
        held
    }

    /// Stops checking a hold that is about to be given up. Returns `None` if another reference
    /// exists.
    pub(crate) fn part(&self, held: Arc<Semaphore<Held>>) -> Option<Semaphore<Held>> {
        let mut holds = self.holds();
        holds.remove(name(&held));
        end(&held);
        Arc::into_inner(held)
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Semaphore<Held>>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports a new hold.
pub(crate) fn begin(key: usize, held: &Held) {
    say(name(held), now(), What::Held { key });
    sure(held);
}

/// Checks a hold and reports the result. Returns whether the slot is held.
pub(crate) fn sure(held: &Held) -> bool {
    let before = now();
    let is_held = held.check().is_ok();
    if is_held {
        say(
            name(held),
            before,
            What::Sure {
                ends: Some(before + held.remaining()),
            },
        );
    } else {
        say(name(held), now(), What::Lost);
    }
    is_held
}

/// Reports that a slot is about to be given up.
pub(crate) fn end(held: &Held) {
    if sure(held) {
        say(name(held), now(), What::Given);
    }
}

/// Reports an event of the slot `name`.
pub(crate) fn say(name: &str, at: Duration, what: What) {
    tell(&Event::Slot {
        name: name.to_owned(),
        at,
        what,
    });
}

/// Sends an event to the parent.
pub(crate) fn tell(event: &Event) {
    // Without a parent process the client has no purpose.
    if writeln!(std::io::stdout(), "{event}").is_err() {
        std::process::exit(1);
    }
}

/// Returns the token as the unique name of the slot.
fn name(held: &Held) -> &str {
    held.token().as_str()
}
