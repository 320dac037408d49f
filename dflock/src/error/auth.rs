//! Reasons of a failed authentication.

use std::fmt;

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
            Self::Missing => "the server requires an auth token; set it with `auth`",
            Self::Wrong { long: false } => {
                "the server refuses the auth token given with `auth`; check it"
            }
            Self::Wrong { long: true } => {
                "the server refuses the auth token given with `auth`; check it, and note that \
                 servers before v1.15 accept none of more than 256 bytes"
            }
            Self::Unneeded => {
                "the server answered `error` to the auth token, as a server does that requires \
                 none; leave `auth` out, or start the server with the token"
            }
            Self::TooLong => {
                "the server answered `error` to an auth token of more than 256 bytes: servers \
                 before v1.15 accept none of that length, or the server requires none; use a \
                 shorter one, or leave `auth` out"
            }
        })
    }
}
