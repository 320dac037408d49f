//! Clients of this server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Server, ServerConfig};
use crate::client::{Client, ClientBuilder};

impl Server {
    /// A client of this server, over TCP. All of them share their connections.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let held = server.client().semaphore("pool", 5)?.acquire().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The options of such a client, to add to: it knows the server's address, secret, certificate and read timeout, and that its
    /// tokens carry a fence. The certificate of a server made with `ServerTls::from_config` it does not know; give it `tls`.
    ///
    /// # Examples
    ///
    /// A test on a paused clock talks to the server in memory:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let client = server.client_builder().connector(server.connector()).build()?;
    /// let held = client.semaphore("pool", 5)?.acquire().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn client_builder(&self) -> ClientBuilder {
        client_of(self.addr, &self.shared.config)
    }
}

/// A client of a server that listens on `addr`.
pub(super) fn client_of(addr: SocketAddr, config: &ServerConfig) -> ClientBuilder {
    // a server on all addresses is reached on the loopback
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let builder = Client::builder()
        .servers([SocketAddr::new(ip, addr.port()).to_string()])
        .auth(config.auth_token.as_str())
        .server_read_timeout(config.read_timeout)
        .fencing(true);
    match &config.tls {
        Some(tls) => tls.introduce(builder),
        None => builder,
    }
}
