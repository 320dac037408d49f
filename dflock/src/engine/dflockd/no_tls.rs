//! Stub of `Tls` for builds without TLS. It has no values.

use std::io;

use super::BoxStream;
use super::pool::CallContext;
use crate::error::{ConfigError, Error, TlsErrorKind};

/// The TLS options, which cannot exist in this build.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn check(&self, _server: &str) -> Result<(), ConfigError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with TLS")]
    pub(super) async fn handshake(
        &self,
        _stream: BoxStream,
        _context: CallContext<'_>,
    ) -> Result<BoxStream, Error> {
        match *self {}
    }
}

/// Returns `None`, because no error comes from TLS.
pub(crate) fn classify(_error: &io::Error) -> Option<TlsErrorKind> {
    None
}
