//! Fault injection.

use std::time::Duration;

use super::shared::Shared;
use crate::wire::Key;

/// Fault injection for a [`Server`](super::Server), to test the programs that use it. Returned by
/// [`Server::faults`](super::Server::faults).
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use dflock::Connector;
/// use dflock::server::Server;
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
///
/// let server = Server::start().await?;
/// let mut client = BufReader::new(server.connector().connect("in-memory").await?);
/// client.write_all(b"sl\npool\n0 1 30\n").await?;
/// let mut granted = String::new();
/// client.read_line(&mut granted).await?;
///
/// // The lease expires before its time, so the next renewal fails.
/// assert!(server.faults().expire("pool"));
/// let token = granted.split(' ').nth(1).unwrap_or_default();
/// client.write_all(format!("sn\npool\n{token} 30\n").as_bytes()).await?;
/// let mut renewed = String::new();
/// client.read_line(&mut renewed).await?;
/// assert_eq!(renewed, "error\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a> {
    pub(super) shared: &'a Shared,
}

impl Faults<'_> {
    /// Expires all leases of `key` now, those of the lock and those of the semaphore. The slots are
    /// granted to the next waiters.
    ///
    /// Returns whether there was a lease to expire: `false` for a key that is not held, as a
    /// mistyped one is, and for a text that is not a valid key.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let held = server.client().lock("job")?.acquire().await?;
    /// assert!(!server.faults().expire("jbo"));
    /// assert!(server.faults().expire("job"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire(self, key: &str) -> bool {
        let Ok(key) = Key::new(key) else { return false };
        self.shared
            .registry
            .with_table(|table, now| table.expire(key, now))
    }

    /// Closes the connections that hold `key` or are queued for it, without a reply.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use dflock::Connector;
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// let server = dflock::server::Server::start().await?;
    /// let mut client = server.connector().connect("in-memory").await?;
    /// client.write_all(b"l\njob\n0 30\n").await?;
    /// client.read_u8().await?;
    ///
    /// server.faults().disconnect("job");
    /// client.read_to_end(&mut Vec::new()).await?; // the server has closed the connection
    /// # Ok(())
    /// # }
    /// ```
    pub fn disconnect(self, key: &str) {
        if let Ok(key) = Key::new(key) {
            self.shared.registry.close(key);
        }
    }

    /// Closes all connections, without a reply.
    pub fn disconnect_all(self) {
        self.shared.registry.close_all();
    }

    /// Stops the server as `SIGSTOP` stops a process. Connections stay open and new ones seem to
    /// succeed, but the server reads, replies, grants and expires nothing until
    /// [`thaw`](Self::thaw).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use dflock::Connector;
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use std::time::Duration;
    ///
    /// let server = dflock::server::Server::start().await?;
    /// let mut client = server.connector().connect("in-memory").await?;
    ///
    /// server.faults().freeze();
    /// client.write_all(b"ping\n_\n_\n").await?;
    /// let silence = tokio::time::timeout(Duration::from_secs(20), client.read_u8()).await;
    /// assert!(silence.is_err());
    ///
    /// server.faults().thaw();
    /// assert_eq!(client.read_u8().await?, b'o');
    /// # Ok(())
    /// # }
    /// ```
    pub fn freeze(self) {
        self.shared.control.freeze();
    }

    /// Resumes a frozen server as `SIGCONT` resumes a process. Timers that elapsed in the meantime
    /// fire now.
    pub fn thaw(self) {
        self.shared.control.unfreeze();
    }

    /// Sets whether new connections fail. In memory they fail with
    /// [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused); over TCP they are closed as
    /// soon as they are accepted. Open connections stay open.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use dflock::Connector;
    /// let server = dflock::server::Server::start().await?;
    /// server.faults().refuse_connections(true);
    /// let refused = server.connector().connect("in-memory").await.err().map(|error| error.kind());
    /// assert_eq!(refused, Some(std::io::ErrorKind::ConnectionRefused));
    /// # Ok(())
    /// # }
    /// ```
    pub fn refuse_connections(self, refuse: bool) {
        self.shared.control.refuse_connections(refuse);
    }

    /// Delays every reply; zero ends the delay. Replies keep their order, and a connection handles
    /// its next request after the delayed reply was written.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use dflock::Connector;
    /// # use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use std::time::Duration;
    ///
    /// let server = dflock::server::Server::start().await?;
    /// let mut client = server.connector().connect("in-memory").await?;
    /// server.faults().delay_replies(Duration::from_millis(300));
    ///
    /// let asked = tokio::time::Instant::now();
    /// client.write_all(b"ping\n_\n_\n").await?;
    /// client.read_u8().await?;
    /// assert!(asked.elapsed() >= Duration::from_millis(300));
    /// # Ok(())
    /// # }
    /// ```
    pub fn delay_replies(self, delay: Duration) {
        self.shared.control.delay_replies(delay);
    }
}
