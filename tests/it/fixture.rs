//! An embedded server with an in-memory client, so that a test can pause the clock.

use dflock::server::{Server, ServerBuilder, ServerConfig};
use dflock::{Client, Held, Semaphore};

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

/// Acquires the only slot of the semaphore `pool`.
pub(crate) async fn acquire_pool(client: &Client) -> Semaphore<Held> {
    let pool = client.semaphore("pool", 1).unwrap();
    pool.acquire().await.unwrap()
}

/// Acquires a slot of `pool`, and releases it.
pub(crate) async fn cycle(pool: &Semaphore) {
    let held = pool.clone().acquire().await.unwrap();
    held.release().await.unwrap();
}

/// Returns the server options for [`Fixture::with_config`].
pub(crate) fn server() -> ServerBuilder {
    Server::builder()
}
