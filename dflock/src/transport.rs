//! From a server's address to one request and its reply.

mod auth_token;
mod call;
mod clock;
mod connection;
mod connector;
mod dialer;
pub(crate) mod driver;
mod fault;
mod file;
mod idle;
mod lazy_timer;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod pem;
mod pool;
mod resolver;
mod tcp;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod tls;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
#[path = "transport/no_tls.rs"]
mod tls;

pub(crate) use auth_token::{AuthToken, AuthTokenFile};
pub use clock::Clock;
pub(crate) use clock::Instant;
pub(crate) use connection::Connection;
pub use connector::{BoxStream, ConnectFuture, Connector, Stream};
pub(crate) use dialer::Dialer;
pub(crate) use fault::Fault;
pub(crate) use file::Reloadable;
pub(crate) use idle::Idle;
#[cfg(feature = "server")]
pub(crate) use lazy_timer::LazyTimer;
#[cfg(all(feature = "server", any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use pem::{Pem, identity};
pub(crate) use pool::{Answer, Ask, NoReply, Pool};
pub(crate) use resolver::Resolver;
pub(crate) use tcp::Tcp;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use tls::Tls;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use tls::Tls;
#[cfg(all(feature = "server", any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use tls::provider;
