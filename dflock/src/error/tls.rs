//! Reasons of a failed TLS handshake.

use std::fmt;

/// The reason why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The server's certificate is for another name.
    Name,
    /// The server's certificate has expired or is not valid yet.
    Date,
    /// The server's certificate is not issued by a trusted CA.
    Issuer,
    /// The server's certificate is refused for another reason.
    Certificate,
    /// The server's answer is not TLS.
    NotTls,
    /// The server refused the handshake.
    Refused,
    /// The server closed the connection without a reason.
    ConnectionClosed,
    /// Any other failure.
    Other,
}

impl fmt::Display for TlsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => {
                "the server's certificate is for another name; use the name of the certificate in \
                 `servers`, or give it with `Tls::server_name`"
            }
            Self::Date => {
                "the server's certificate is out of date, or not valid yet; renew it, and check \
                 the clock of this machine"
            }
            Self::Issuer => {
                "the server's certificate is not issued by a trusted CA; give the CA's certificate \
                 with `Tls::ca_pem_file`"
            }
            Self::Certificate => {
                "the server's certificate is refused; give the server one that is for servers and \
                 not a CA's, and see the cause"
            }
            Self::NotTls => {
                "the server's answer is not TLS, so it does not speak TLS here; check the port, \
                 or leave `tls` out"
            }
            Self::Refused => {
                "the server refused the handshake; if it requires a client certificate, give one \
                 that it trusts with `Tls::client_pem_files`"
            }
            Self::ConnectionClosed => {
                "the server was reached and ended the handshake; check that it speaks TLS on this \
                 port"
            }
            Self::Other => "the handshake failed; see the cause",
        })
    }
}
