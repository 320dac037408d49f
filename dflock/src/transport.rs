//! From a server's address to one request and its reply.

mod alarm;
mod attendant;
mod clock;
mod connection;
mod connector;
mod dialer;
mod idle;
mod pool;
mod tcp;

pub(crate) use attendant::Duty;
pub use clock::Clock;
pub(crate) use clock::Instant;
pub(crate) use connection::{Connection, Fault, at_once};
pub use connector::{BoxStream, Connecting, Connector, Stream};
pub(crate) use dialer::{Dialer, Secret};
pub(crate) use pool::{Answer, Ask, Pool};
pub(crate) use tcp::Tcp;
