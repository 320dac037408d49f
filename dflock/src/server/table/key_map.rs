//! Map from keys to their entries.

use std::collections::HashMap;
use std::sync::Arc;

use super::KeyId;
use super::entry::Entry;
use crate::wire::{Key, Kind};

/// Entries by key. Each kind has a separate map, so that a lookup can borrow the key's text.
#[derive(Debug, Default)]
pub(super) struct KeyMap {
    locks: HashMap<Arc<str>, Entry>,
    semaphores: HashMap<Arc<str>, Entry>,
}

impl KeyMap {
    /// Returns the entry of a key and the id that the map shares with its callers.
    pub(super) fn find(&self, kind: Kind, key: Key<'_>) -> Option<(KeyId, &Entry)> {
        let (key, entry) = self.map(kind).get_key_value(key.as_str())?;
        Some((
            KeyId {
                kind,
                key: Arc::clone(key),
            },
            entry,
        ))
    }

    pub(super) fn get(&self, key: &KeyId) -> Option<&Entry> {
        self.map(key.kind).get(&key.key)
    }

    pub(super) fn get_mut(&mut self, key: &KeyId) -> Option<&mut Entry> {
        self.map_mut(key.kind).get_mut(&key.key)
    }

    pub(super) fn insert(&mut self, key: KeyId, entry: Entry) {
        self.map_mut(key.kind).insert(key.key, entry);
    }

    pub(super) fn remove(&mut self, key: &KeyId) -> Option<Entry> {
        self.map_mut(key.kind).remove(&key.key)
    }

    /// Iterates over all entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (KeyId, &Entry)> {
        [Kind::Lock, Kind::Semaphore].into_iter().flat_map(|kind| {
            let entries = self.map(kind).iter();
            entries.map(move |(key, entry)| {
                (
                    KeyId {
                        kind,
                        key: Arc::clone(key),
                    },
                    entry,
                )
            })
        })
    }

    pub(super) fn len(&self) -> usize {
        self.locks.len() + self.semaphores.len()
    }

    fn map(&self, kind: Kind) -> &HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &self.locks,
            Kind::Semaphore => &self.semaphores,
        }
    }

    fn map_mut(&mut self, kind: Kind) -> &mut HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &mut self.locks,
            Kind::Semaphore => &mut self.semaphores,
        }
    }
}
