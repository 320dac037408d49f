//! Clients of the embedded server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Server, ServerConfig};
use crate::client::{Client, ClientBuilder};

impl Server {
    /// Returns a client of this server, over TCP. All clients that this method returns share one
    /// connection pool.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let held = server.client().semaphore("pool", 5)?.acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns the options of [`client`](Self::client), to be changed: the server's address, auth
    /// token, certificate and read timeout, and [`fencing`](ClientBuilder::fencing).
    ///
    /// The certificate of a server made with `ServerTls::from_config` is not included. Its clients
    /// need `tls`.
    ///
    /// # Examples
    ///
    /// A test on a paused clock connects to the server in memory:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = dflock::server::Server::start().await?;
    /// let client = server.client_builder().connector(server.connector()).build()?;
    /// let held = client.semaphore("pool", 5)?.acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn client_builder(&self) -> ClientBuilder {
        client_builder_for(self.addr, &self.shared.config)
    }
}

/// Returns the options of a client of a server that listens on `addr`.
pub(super) fn client_builder_for(addr: SocketAddr, config: &ServerConfig) -> ClientBuilder {
    // A client cannot connect to the unspecified address, so it uses the loopback address.
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
        Some(tls) => tls.configure_client(builder),
        None => builder,
    }
}
