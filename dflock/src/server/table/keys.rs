//! The keys of a table.

use std::collections::HashMap;
use std::sync::Arc;

use super::Name;
use super::entry::Entry;
use crate::wire::{Key, Kind};

/// What is kept of each key. A family has a map of its own, so that a key is found by its borrowed text.
#[derive(Debug, Default)]
pub(super) struct Keys {
    locks: HashMap<Arc<str>, Entry>,
    semaphores: HashMap<Arc<str>, Entry>,
}

impl Keys {
    /// The key as it is kept here, if it is.
    pub(super) fn find(&self, kind: Kind, key: Key<'_>) -> Option<(Name, &Entry)> {
        let (key, entry) = self.of(kind).get_key_value(key.as_str())?;
        Some((Name { kind, key: Arc::clone(key) }, entry))
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Entry> {
        self.of(name.kind).get(&name.key)
    }

    pub(super) fn get_mut(&mut self, name: &Name) -> Option<&mut Entry> {
        self.of_mut(name.kind).get_mut(&name.key)
    }

    pub(super) fn insert(&mut self, name: Name, entry: Entry) {
        self.of_mut(name.kind).insert(name.key, entry);
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.of_mut(name.kind).remove(&name.key);
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Name, &Entry)> {
        let named = |kind| self.of(kind).iter().map(move |(key, entry)| (Name { kind, key: Arc::clone(key) }, entry));
        [Kind::Lock, Kind::Semaphore].into_iter().flat_map(named)
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.locks.len() + self.semaphores.len()
    }

    fn of(&self, kind: Kind) -> &HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &self.locks,
            Kind::Semaphore => &self.semaphores,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut HashMap<Arc<str>, Entry> {
        match kind {
            Kind::Lock => &mut self.locks,
            Kind::Semaphore => &mut self.semaphores,
        }
    }
}
