//! The limits that semaphores use in place of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::mutex::Mutex;
use crate::wire::Limit;

/// The time for which an adopted limit is used before a semaphore tries its own limit again.
const ADOPTION: Duration = Duration::from_mins(1);

/// The time for which an expired limit is kept as the last known one. It is longer than the 65 s
/// after which a server forgets the limit of an idle key.
const RETENTION: Duration = Duration::from_mins(2);

/// The number of limits from which on the outdated ones are removed.
const MIN_PURGE: usize = 64;

/// The limits of the keys that a client uses with another limit than that of their semaphores.
///
/// They belong to the client, because an annotated function builds a semaphore for each call.
#[derive(Debug, Default)]
pub(crate) struct AdoptedLimits(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    limits: HashMap<Arc<str>, Adopted>,
    /// The number of limits after the last purge.
    kept: usize,
}

#[derive(Clone, Copy, Debug)]
struct Adopted {
    limit: Limit,
    /// The limit is no longer used from here on.
    expires_at: Instant,
}

impl AdoptedLimits {
    /// Returns the adopted limit of `key`, unless it has expired.
    pub(crate) fn current(&self, key: &str, now: Instant) -> Option<Limit> {
        let adopted = *self.0.lock().limits.get(key)?;
        (now < adopted.expires_at).then_some(adopted.limit)
    }

    /// Returns the limit of `key` that was adopted last, even if it has expired.
    pub(crate) fn last(&self, key: &str) -> Option<Limit> {
        Some(self.0.lock().limits.get(key)?.limit)
    }

    /// Adopts the `limit` that the server reported for `key`. Returns whether this is a change.
    pub(crate) fn adopt(&self, key: &Arc<str>, limit: Limit, now: Instant) -> bool {
        let expires_at = now.saturating_add(ADOPTION);
        let mut table = self.0.lock();
        table.purge(now);
        let previous = table
            .limits
            .insert(key.clone(), Adopted { limit, expires_at });
        previous.is_none_or(|previous| previous.limit != limit)
    }

    /// Notes that the server has accepted `limit` for `key`. Forgets another adopted limit, and uses
    /// an expired one again.
    pub(crate) fn confirm(&self, key: &str, limit: Limit, now: Instant) {
        let mut table = self.0.lock();
        let Some(adopted) = table.limits.get_mut(key) else {
            return;
        };
        if adopted.limit != limit {
            table.limits.remove(key);
        } else if adopted.expires_at <= now {
            adopted.expires_at = now.saturating_add(ADOPTION);
        }
    }
}

impl Table {
    /// Removes the outdated limits when the table has doubled. Programs may build keys from their
    /// input, so the number of keys has no bound.
    fn purge(&mut self, now: Instant) {
        if self.limits.len() < (2 * self.kept).max(MIN_PURGE) {
            return;
        }
        self.limits
            .retain(|_, adopted| now < adopted.expires_at.saturating_add(RETENTION));
        self.kept = self.limits.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn limit(limit: u32) -> Limit {
        Limit::new(limit).unwrap()
    }

    #[test]
    fn a_limit_is_used_for_a_minute_and_known_for_longer() {
        let limits = AdoptedLimits::default();
        let (key, start) = (Arc::from("pool"), Clock::Boottime.now());
        assert!(limits.adopt(&key, limit(8), start));
        assert!(!limits.adopt(&key, limit(8), start));
        assert!(limits.adopt(&key, limit(9), start));
        let later = |seconds| start.saturating_add(Duration::from_secs(seconds));
        assert_eq!(limits.current(&key, later(59)), Some(limit(9)));
        assert_eq!(limits.current(&key, later(60)), None);
        assert_eq!(limits.last(&key), Some(limit(9)));
        // A use before the expiry does not prolong it: otherwise a busy semaphore would never try
        // its own limit again.
        limits.confirm(&key, limit(9), later(59));
        assert_eq!(limits.current(&key, later(60)), None);
        limits.confirm(&key, limit(9), later(61));
        assert_eq!(limits.current(&key, later(120)), Some(limit(9)));
        limits.confirm(&key, limit(5), later(120));
        assert_eq!(limits.last(&key), None);
    }

    #[test]
    fn outdated_limits_are_removed() {
        let limits = AdoptedLimits::default();
        let start = Clock::Boottime.now();
        for key in 0..10_000_u32 {
            let now = start.saturating_add(Duration::from_secs(key.into()));
            limits.adopt(&key.to_string().into(), limit(8), now);
        }
        let kept = limits.0.lock().limits.len();
        assert!(kept <= 2 * 180, "{kept}");
    }
}
