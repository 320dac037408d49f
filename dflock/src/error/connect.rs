//! Causes of a failed connect: the time limit, TLS, the auth token.

use std::fmt;

/// The step at which connecting timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectStage {
    /// The transport connection: the lookup of the name, and TCP.
    Transport,
    /// The TLS handshake, after the transport connection was made.
    Tls,
}

impl fmt::Display for ConnectStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transport => "check the network",
            Self::Tls => "the server was reached; check that it speaks TLS on this port",
        })
    }
}

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
                 that it trusts with `Tls::client_pem_files`, or with `DFLOCK_TLS_CERT` and \
                 `DFLOCK_TLS_KEY`"
            }
            Self::ConnectionClosed => {
                "the server was reached and ended the handshake; check that it speaks TLS on this \
                 port"
            }
            Self::Other => "the handshake failed; see the cause",
        })
    }
}

/// The reason why authentication failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// The server requires an auth token, and the client has none.
    Missing,
    /// The server refuses the client's auth token.
    Wrong {
        /// True for a token of more than 256 bytes, which servers before v1.15 refuse.
        long: bool,
    },
    /// The client has an auth token, and the server requires none.
    Unneeded,
    /// The auth token has more than 256 bytes, and the server answered `error`.
    ///
    /// The server either accepts no line of that length, or requires no token.
    TooLong,
}

impl fmt::Display for AuthErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => {
                "the server requires an auth token; set it with `auth`, on etcd as `name:password`"
            }
            Self::Wrong { long: false } => {
                "the server refuses the auth token given with `auth`; check it"
            }
            Self::Wrong { long: true } => {
                "the server refuses the auth token given with `auth`; check it, and note that \
                 servers before v1.15 accept none of more than 256 bytes"
            }
            Self::Unneeded => {
                "the server requires no auth token; leave `auth` out, or enable authentication there"
            }
            Self::TooLong => {
                "the server answered `error` to an auth token of more than 256 bytes: servers \
                 before v1.15 accept none of that length, or the server requires none; use a \
                 shorter one, or leave `auth` out"
            }
        })
    }
}
