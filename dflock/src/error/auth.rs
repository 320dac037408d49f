//! In what a server and a client do not agree about the shared secret.

use std::fmt;

/// In what a server and a client do not agree about the shared secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// The server asks for a secret and the client has none.
    Missing,
    /// The server does not take the client's secret.
    Wrong {
        /// Whether the secret has more than 256 bytes, which servers before v1.15 do not take.
        long: bool,
    },
    /// The client has a secret and the server asks for none.
    Unneeded,
    /// The secret has more than 256 bytes, and the server either takes no line of that length or asks for no secret.
    TooLong,
}

impl fmt::Display for AuthErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the server asks for a secret; give the client its with `auth`",
            Self::Wrong { long: false } => "the server does not take the secret given with `auth`; check it",
            Self::Wrong { long: true } => {
                "the server does not take the secret given with `auth`; check it, and note that servers before v1.15 take none of more than 256 bytes"
            }
            Self::Unneeded => "the server answered `error` to the secret, as one does that asks for none; leave `auth` out, or start the server with its secret",
            Self::TooLong => {
                "the server answered `error` to a secret of more than 256 bytes: servers before v1.15 take none of that length, or it asks for none; share a shorter one, or leave `auth` out"
            }
        })
    }
}
