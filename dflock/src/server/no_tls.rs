//! What stands for TLS in a build without it: nothing can be made of it.

use std::io;

use crate::client::ClientBuilder;
use crate::transport::BoxStream;

/// There is none.
#[derive(Clone, Debug)]
pub(super) enum ServerTls {}

impl ServerTls {
    #[expect(clippy::unused_async, reason = "as with TLS")]
    pub(super) async fn accept(&self, _stream: BoxStream) -> io::Result<BoxStream> {
        match *self {}
    }

    pub(super) fn introduce(&self, _builder: ClientBuilder) -> ClientBuilder {
        match *self {}
    }
}
