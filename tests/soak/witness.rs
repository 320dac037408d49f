//! What a client process believes, told to the parent as it happens.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dflock::{Held, Lost, Semaphore};

use crate::clock::now;
use crate::event::{Event, What};

/// How often every hold is checked.
const PACE: Duration = Duration::from_millis(1);

/// Checks all holds on a thread of its own: it asks at moments at which the executor under test does not run.
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

    /// Watches a hold of `key` until [`part`](Self::part).
    pub(crate) fn watch(&self, key: usize, held: Semaphore<Held>) -> Arc<Semaphore<Held>> {
        begin(key, &held);
        let held = Arc::new(held);
        self.holds().insert(held.token().as_str().to_owned(), held.clone());
        held
    }

    /// The hold is about to be given up; `None` if somebody else still looks at it.
    pub(crate) fn part(&self, held: Arc<Semaphore<Held>>) -> Option<Semaphore<Held>> {
        let mut holds = self.holds();
        holds.remove(held.token().as_str());
        end(&held);
        Arc::into_inner(held)
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Semaphore<Held>>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a slot came.
pub(crate) fn begin(key: usize, held: &Held) {
    tell(held.token().as_str(), now(), What::Held { key, fence: held.fence() });
    sure(held);
}

/// Checks a hold, and says what came of it. Whether it is held.
pub(crate) fn sure(held: &Held) -> bool {
    let before = now();
    match held.check() {
        Ok(()) => tell(held.token().as_str(), before, What::Sure),
        Err(ref loss) => lost(loss),
    }
    !held.is_lost()
}

/// Says that a loss was told.
pub(crate) fn lost(lost: &Lost) {
    tell(lost.token.as_str(), now(), What::Lost { reason: format!("{:?}", lost.reason) });
}

/// Says that a slot is about to be given up.
pub(crate) fn end(held: &Held) {
    if sure(held) {
        tell(held.token().as_str(), now(), What::Given);
    }
}

fn tell(token: &str, at: Duration, what: What) {
    let line = Event { token: token.to_owned(), at, what };
    // without a parent there is nobody to hold anything for
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}
