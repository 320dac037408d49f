//! The client that is used when none is named.

use std::future::Future;
use std::sync::OnceLock;

use super::Client;
use crate::error::ConfigError;

static GLOBAL: OnceLock<Client> = OnceLock::new();
/// Made from the environment when it is first asked for, so that its connections are kept.
static FROM_ENV: OnceLock<Client> = OnceLock::new();

tokio::task_local! {
    static SCOPED: Client;
}

impl Client {
    /// Makes this the client of the whole program, for all who name none. Works once.
    ///
    /// # Errors
    ///
    /// [`ConfigError::GlobalInstalled`] when there is one already.
    pub fn install_global(self) -> Result<(), ConfigError> {
        GLOBAL.set(self).map_err(|_| ConfigError::GlobalInstalled)
    }

    /// Makes this the client of one task while `future` runs, so that tests run side by side. Tasks that `future` spawns need a scope
    /// of their own.
    ///
    /// # Cancel safety
    ///
    /// As `future`.
    ///
    /// # Examples
    ///
    /// ```
    /// use dflock::{Client, Semaphore};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
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

    /// The scope's client, else the global one, else one made from the environment (once; see [`from_env`](Self::from_env)).
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env), when it comes to that.
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
