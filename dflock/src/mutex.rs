//! A mutex without poisoning.

use std::sync::{MutexGuard, PoisonError};

/// Like [`std::sync::Mutex`], without poisoning.
///
/// The data in these mutexes is consistent after every statement. With poisoning, a panic of a
/// custom connector during a poll would make `drop` and `check` panic as well.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
