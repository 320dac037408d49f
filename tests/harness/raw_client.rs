//! Minimal client that shares no code with the client under test.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection to a server.
#[derive(Debug)]
pub struct RawClient(BufReader<TcpStream>);

impl RawClient {
    /// Connects to `server`.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub async fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request. Returns the reply without its line break.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system, or `UnexpectedEof` when the server closes the
    /// connection.
    pub async fn request(
        &mut self,
        command: &str,
        key: &str,
        argument: &str,
    ) -> io::Result<String> {
        self.0
            .write_all(format!("{command}\n{key}\n{argument}\n").as_bytes())
            .await?;
        let mut reply = String::new();
        if self.0.read_line(&mut reply).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reply.trim_end().to_owned())
    }

    /// Returns the token of a slot of `key` if one is granted within `wait` seconds.
    ///
    /// # Errors
    ///
    /// See [`request`](Self::request).
    pub async fn acquire(
        &mut self,
        key: &str,
        wait: u64,
        limit: u32,
        lease: u64,
    ) -> io::Result<Option<String>> {
        let reply = self
            .request("sl", key, &format!("{wait} {limit} {lease}"))
            .await?;
        Ok(reply
            .strip_prefix("ok ")
            .and_then(|rest| rest.split(' ').next())
            .map(str::to_owned))
    }
}
