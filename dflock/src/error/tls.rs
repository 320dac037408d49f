//! What TLS finds wrong with a server, or a server with its client.

use std::fmt;

/// What was found wrong when TLS was set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The server's certificate is for another name.
    Name,
    /// The server's certificate is not valid yet, or no longer.
    Date,
    /// Nobody who is trusted issued the server's certificate.
    Issuer,
    /// The server's certificate is refused for another reason.
    Certificate,
    /// What the server said is not TLS.
    NotTls,
    /// The server broke it off.
    Refused,
    /// The server ended the connection and did not say why.
    ConnectionClosed,
    /// Anything else.
    Other,
}

impl fmt::Display for TlsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => {
                "the server's certificate is for another name; put the name that it is for in `servers`, or give it with `Tls::server_name`"
            }
            Self::Date => "the server's certificate is out of date, or not valid yet; renew it, and check the clock of this machine",
            Self::Issuer => "nobody who is trusted issued the server's certificate; give its issuer's with `Tls::ca_pem_file`",
            Self::Certificate => {
                "the server's certificate is refused; give the server one that is for servers and not a CA's, and see the cause"
            }
            Self::NotTls => "the server answered what is not TLS, so it does not speak TLS here; check the port, or leave `tls` out",
            Self::Refused => {
                "the server broke the handshake off; if it asks for a client certificate, give one that it trusts with `Tls::client_pem_files`"
            }
            Self::ConnectionClosed => "the server was reached and ended the handshake; check that it speaks TLS on this port",
            Self::Other => "the handshake failed; see the cause",
        })
    }
}
