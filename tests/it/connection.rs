//! One connection: its bytes, its end, its secret, and who may use it next.

mod age;
mod bytes;
mod cut_off;
mod end;
mod pool;
mod rejoin;
mod rotten;
mod secret;
mod woken;
mod writes;

use dflock::{BoxStream, Clock, ConnectFuture, Connector};

use crate::house::House;

/// A connector to the server of a house whose streams are wrapped in others.
struct Wrapped<F> {
    whole: Box<dyn Connector>,
    wrap: F,
}

impl<F: Fn(BoxStream) -> BoxStream + Send + Sync + 'static> Wrapped<F> {
    fn new(house: &House, wrap: F) -> Self {
        Self {
            whole: Box::new(house.server.connector()),
            wrap,
        }
    }
}

impl<F: Fn(BoxStream) -> BoxStream + Send + Sync + 'static> Connector for Wrapped<F> {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async move { Ok((self.wrap)(self.whole.connect(server).await?)) })
    }

    fn clock(&self) -> Clock {
        self.whole.clock()
    }
}
