//! The release of slots that their owners gave up before `min_hold` was over.

use super::state::Phase;
use super::{Lease, LeaseConfig};
use crate::driver;
use crate::engine::Entry;
use crate::telemetry;
use crate::wire::Token;

impl Lease {
    /// Releases a slot that its owner has given up, and returns its connection to the pool.
    pub(super) async fn release_lingering(&self) {
        let LeaseConfig { engine, slot, .. } = &*self.config;
        let (sent_at, runtime) = (self.now(), driver::runtime_id());
        let (Some((entry, token)), Ok(runtime)) = (self.take_lingering(), runtime) else {
            return;
        };
        let released = engine.release(entry, slot, token, (runtime, sent_at));
        // A server that does not hold the slot any more has ended it before its time. No caller is
        // left that could act on it.
        if let Err(error) = released.await {
            telemetry::warn_release_failure(&error);
        }
    }

    /// Takes the entry of a slot that its owner has given up. It is released from here on.
    fn take_lingering(&self) -> Option<(Entry, Token)> {
        let mut entry_guard = self.entry.lock();
        let mut state = self.state.lock();
        let Phase::Lingering { grant, .. } = state.phase else {
            return None;
        };
        state.phase = Phase::Released;
        Some((entry_guard.take()?, grant.token))
    }
}
