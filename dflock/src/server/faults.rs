//! What can go wrong with a server, on demand.

use std::time::Duration;

use super::Shared;
use crate::wire::Key;

/// Makes a [`Server`](super::Server) misbehave, for tests of what is built on it. From [`Server::faults`](super::Server::faults).
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
/// // the lease ends long before its time, and the client that tries to renew it is told so
/// server.faults().expire("pool");
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
    /// Ends all leases of `key` now, those of the lock and those of the semaphore; the slots go to the next in line.
    ///
    /// Returns whether there was a lease to end: `false` for a key that is not held, as a mistyped
    /// one is, and for a text that cannot be a key.
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
        Key::new(key).is_ok_and(|key| self.shared.desk.at(key, |table, now| table.expire(key, now)))
    }

    /// Closes the connections that hold `key` or wait for it, without a word.
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
    /// client.read_to_end(&mut Vec::new()).await?; // comes to an end
    /// # Ok(())
    /// # }
    /// ```
    pub fn disconnect(self, key: &str) {
        if let Ok(key) = Key::new(key) {
            self.shared.desk.send_away(key);
        }
    }

    /// Closes all connections, without a word.
    pub fn disconnect_all(self) {
        self.shared.desk.send_all_away();
    }

    /// Stops the server as `SIGSTOP` stops a process: connections stay open and new ones seem to succeed, but nothing is read,
    /// answered, granted or swept until [`thaw`](Self::thaw).
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
        self.shared.condition.freeze();
    }

    /// Lets a frozen server go on as a stopped process would: timers that fell due meanwhile are handled now.
    pub fn thaw(self) {
        self.shared.condition.thaw();
    }

    /// Whether new connections fail: in memory with [`ConnectionRefused`](std::io::ErrorKind::ConnectionRefused), over TCP by being
    /// closed as soon as they are accepted. Those that are open stay.
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
        self.shared.condition.refuse(refuse);
    }

    /// Holds every reply back for `delay`; zero ends that. The order stays, and a connection reads its next request when its reply
    /// is on the way.
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
        self.shared.condition.delay_replies(delay);
    }
}
