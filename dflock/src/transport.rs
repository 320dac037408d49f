//! From a server's address to one request and its reply.

mod clock;
mod connector;

pub use clock::Clock;
pub(crate) use clock::Instant;
pub use connector::{BoxStream, Connecting, Connector, Stream};
