//! Classification of TLS errors.

use std::io;

use tokio_rustls::rustls::{self, CertificateError};

use crate::error::TlsErrorKind;

/// Returns the kind of a TLS error; `None` if the error comes from the stream below.
pub(crate) fn classify(error: &io::Error) -> Option<TlsErrorKind> {
    Some(match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsErrorKind::Name
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsErrorKind::Date,
            // An issuer with the name of a trusted one, but another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsErrorKind::Issuer
            }
            _ => TlsErrorKind::Certificate,
        },
        rustls::Error::AlertReceived(_) => TlsErrorKind::Refused,
        _ => TlsErrorKind::Other,
    })
}

/// Returns the kind of an error during the handshake, before any TLS message of the server was
/// accepted.
pub(super) fn classify_handshake(error: &io::Error) -> Option<TlsErrorKind> {
    if let Some(rustls::Error::InvalidMessage(_)) =
        error.get_ref().and_then(|error| error.downcast_ref())
    {
        return Some(TlsErrorKind::NotTls);
    }
    let ended = matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    );
    classify(error).or(ended.then_some(TlsErrorKind::ConnectionClosed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_message_means_no_tls_only_during_the_handshake() {
        let garbage = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            )
        };
        assert_eq!(classify_handshake(&garbage()), Some(TlsErrorKind::NotTls));
        assert_eq!(classify(&garbage()), Some(TlsErrorKind::Other));
    }

    #[test]
    fn only_a_handshake_that_the_server_ended_is_connection_closed() {
        for kind in [
            io::ErrorKind::UnexpectedEof,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::BrokenPipe,
        ] {
            assert_eq!(
                (classify_handshake(&kind.into()), classify(&kind.into())),
                (Some(TlsErrorKind::ConnectionClosed), None)
            );
        }
        assert_eq!(
            classify_handshake(&io::ErrorKind::HostUnreachable.into()),
            None
        );
    }
}
