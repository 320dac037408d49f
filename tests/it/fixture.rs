//! An embedded server with an in-memory client, so that a test can pause the clock.

use dflock::Client;
use dflock::server::{Server, ServerBuilder, ServerConfig};

/// An embedded server and a client that reaches it through memory.
pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) client: Client,
}

impl Fixture {
    /// Starts a server with the default options.
    pub(crate) async fn new() -> Self {
        Self::with_config(Server::builder().build()).await
    }

    /// Starts a server with `config`.
    pub(crate) async fn with_config(config: ServerConfig) -> Self {
        let server = config.start().await.unwrap();
        let client = server
            .client_builder()
            .connector(server.connector())
            .build()
            .unwrap();
        Self { server, client }
    }

    /// Returns the number of holders of the semaphore `key`.
    pub(crate) fn holders(&self, key: &str) -> u64 {
        self.server
            .stats()
            .semaphores
            .iter()
            .find(|s| s.key == key)
            .map_or(0, |s| s.holders)
    }

    /// Returns the number of waiters in the queue of the semaphore `key`.
    pub(crate) fn waiters(&self, key: &str) -> u64 {
        self.server
            .stats()
            .semaphores
            .iter()
            .find(|s| s.key == key)
            .map_or(0, |s| s.waiters)
    }
}

/// Returns the server options for [`Fixture::with_config`].
pub(crate) fn server() -> ServerBuilder {
    Server::builder()
}
