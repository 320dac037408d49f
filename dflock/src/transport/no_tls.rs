//! What stands for TLS in a build without it: nothing can be made of it.

use std::io;

use super::BoxStream;
use crate::error::{ConfigError, Error, ErrorContext, TlsErrorKind};

/// There is none.
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn check(&self, _server: &str) -> Result<(), ConfigError> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "as with TLS")]
    pub(crate) async fn handshake(
        &self,
        _stream: BoxStream,
        _at: &ErrorContext,
    ) -> Result<BoxStream, Error> {
        match *self {}
    }
}

/// No error comes from TLS.
pub(crate) fn fault(_error: &io::Error) -> Option<TlsErrorKind> {
    None
}
