//! The default client of a task or of the program.

use std::future::Future;
use std::sync::OnceLock;

use super::Client;
use crate::error::ConfigError;

static GLOBAL: OnceLock<Client> = OnceLock::new();
/// The client of the environment, made on first use and kept, so that its connections are reused.
static FROM_ENV: OnceLock<Client> = OnceLock::new();

tokio::task_local! {
    static SCOPED: Client;
}

impl Client {
    /// Makes this the default client of the program. This succeeds only once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::GlobalInstalled`] if a client is already installed.
    pub fn install_global(self) -> Result<(), ConfigError> {
        GLOBAL.set(self).map_err(|_| ConfigError::GlobalInstalled)
    }

    /// Makes this the default client of the current task while `future` runs.
    ///
    /// Tests that use it can run side by side. Tasks that `future` spawns need their own scope.
    ///
    /// # Cancel safety
    ///
    /// The same as that of `future`.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::{Client, Semaphore};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// server
    ///     .client()
    ///     .scope(async {
    ///         let held = Semaphore::builder().key("pool").limit(5).build()?.acquire().await?;
    ///         held.release().await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        SCOPED.scope(self, future)
    }

    /// Returns the client of the scope, the global client, or one made from the environment.
    ///
    /// They are tried in this order. The last is made once; see [`from_env`](Self::from_env).
    ///
    /// # Errors
    ///
    /// The errors of [`from_env`](Self::from_env), if the client is made from the environment.
    pub fn current() -> Result<Self, ConfigError> {
        if let Ok(client) = SCOPED.try_with(Self::clone) {
            return Ok(client);
        }
        if let Some(client) = GLOBAL.get().or_else(|| FROM_ENV.get()) {
            return Ok(client.clone());
        }
        let client = Self::from_env()?;
        Ok(FROM_ENV.get_or_init(|| client).clone())
    }
}
