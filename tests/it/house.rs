//! A server and a client of it without a socket between them, so that a test can pause the clock.

use dflock::Client;
use dflock::server::{Server, ServerBuilder, ServerConfig};

/// An embedded server, and a client that reaches it in memory.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl House {
    /// With the default options.
    pub(crate) async fn new() -> Self {
        Self::with(Server::builder().build()).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        let server = config.start().await.unwrap();
        let client = server
            .client_builder()
            .connector(server.connector())
            .build()
            .unwrap();
        Self { server, client }
    }

    /// How many hold `key`.
    pub(crate) fn holders(&self, key: &str) -> u64 {
        self.server
            .stats()
            .semaphores
            .iter()
            .find(|s| s.key == key)
            .map_or(0, |s| s.holders)
    }

    /// How many wait for `key`.
    pub(crate) fn waiters(&self, key: &str) -> u64 {
        self.server
            .stats()
            .semaphores
            .iter()
            .find(|s| s.key == key)
            .map_or(0, |s| s.waiters)
    }
}

/// Options for a [`House`].
pub(crate) fn server() -> ServerBuilder {
    Server::builder()
}
