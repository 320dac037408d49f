//! TLS over the stream of a connector.
//!
//! In a build without TLS, `Tls` is a type without values.

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod config;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod error;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
mod options;

#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use config::CLIENT_KEY;
#[cfg(all(feature = "server", any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use config::provider;
#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
pub(crate) use disabled::{Tls, classify};
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub(crate) use error::classify;
#[cfg(any(feature = "tls", feature = "tls-aws-lc"))]
pub use options::Tls;

#[cfg(not(any(feature = "tls", feature = "tls-aws-lc")))]
mod disabled {
    use std::io;

    use crate::engine::dflockd::BoxStream;
    use crate::engine::dflockd::pool::CallContext;
    use crate::error::{ConfigError, Error, TlsErrorKind};

    /// The TLS options, which cannot exist in this build.
    #[derive(Clone, Debug)]
    pub(crate) enum Tls {}

    impl Tls {
        pub(crate) fn check(&self, _server: &str) -> Result<(), ConfigError> {
            match *self {}
        }

        #[cfg(feature = "etcd")]
        #[expect(clippy::unused_async, reason = "the signature of a build with TLS")]
        pub(crate) async fn handshake_http2(
            &self,
            _stream: BoxStream,
            _server: &str,
        ) -> Result<BoxStream, (io::Error, Option<TlsErrorKind>)> {
            match *self {}
        }

        #[expect(clippy::unused_async, reason = "the signature of a build with TLS")]
        pub(in crate::engine::dflockd) async fn handshake(
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
}
