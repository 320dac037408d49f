//! State that all tasks of a server share.

use std::sync::Arc;

use super::config::ServerConfig;
use super::control::Control;
use super::error::ServerError;
use super::registry::Registry;
use super::table::{Table, TokenGenerator};
use crate::wire::LeaseSeconds;

/// Configuration, connections and switches of a server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) default_lease: LeaseSeconds,
    pub(super) registry: Arc<Registry>,
    pub(super) control: Arc<Control>,
}

impl Shared {
    pub(super) fn new(config: ServerConfig, tokens: TokenGenerator) -> Result<Self, ServerError> {
        let default_lease = config.validate()?;
        let table = Table::new(config.table_config(), tokens);
        let table = table.with_observer(config.observer.clone());
        let registry = Registry::new(table, config.max_connections);
        Ok(Self {
            config,
            default_lease,
            registry,
            control: Arc::default(),
        })
    }

    /// Returns the state of a server whose tokens are the same every time.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn seeded(config: ServerConfig) -> Result<Arc<Self>, ServerError> {
        Ok(Arc::new(Self::new(config, TokenGenerator::seeded(1))?))
    }
}
