//! The short forms `Client::semaphore` and `Client::lock`.
//!
//! They are not in `client`, because that module would then import the ones that import it.

use super::{Lock, Semaphore};
use crate::client::Client;
use crate::error::ConfigError;

impl Client {
    /// Returns a semaphore of `key` and `limit` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key or the limit is invalid.
    pub fn semaphore(&self, key: impl Into<String>, limit: u32) -> Result<Semaphore, ConfigError> {
        Semaphore::builder()
            .key(key)
            .limit(limit)
            .client(self.clone())
            .build()
    }

    /// Returns a lock of `key` on this client, with default options.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the key is invalid.
    pub fn lock(&self, key: impl Into<String>) -> Result<Lock, ConfigError> {
        Lock::builder().key(key).client(self.clone()).build()
    }
}
