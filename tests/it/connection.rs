//! Behaviour of one connection: framing, disconnection, authentication and reuse.

mod age;
mod auth_token;
mod bytes;
mod cancelled_calls;
mod disconnect;
mod panicking_stream;
mod pool;
mod rejoin;
mod wakeups;
mod writes;

use dflock::{BoxStream, Clock, ConnectFuture, Connector};

use crate::fixture::Fixture;

/// Connector to the fixture's server that wraps each stream.
struct WrappingConnector<F> {
    inner: Box<dyn Connector>,
    wrap: F,
}

impl<F: Fn(BoxStream) -> BoxStream + Send + Sync + 'static> WrappingConnector<F> {
    fn new(fixture: &Fixture, wrap: F) -> Self {
        Self {
            inner: Box::new(fixture.server.connector()),
            wrap,
        }
    }
}

impl<F: Fn(BoxStream) -> BoxStream + Send + Sync + 'static> Connector for WrappingConnector<F> {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async move { Ok((self.wrap)(self.inner.connect(server).await?)) })
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }
}
