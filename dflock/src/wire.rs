//! The wire protocol: requests and replies in both directions, without IO.
//!
//! A request is three lines (`command\n key\n argument\n`), and a reply is one. Received lines are
//! parsed into types that can hold only values that the protocol allows. Code outside of this
//! module does not validate a number or a key again.

mod capacity;
mod key;
mod line;
mod number;
mod reply;
mod request;
mod token;

pub(crate) use capacity::{Capacity, Kind};
pub use key::InvalidKey;
pub(crate) use key::{Key, KeyBuf};
pub(crate) use line::Lines;
pub(crate) use number::{LeaseSeconds, Limit, Seconds};
pub(crate) use reply::{Grant, Reply, Status};
pub(crate) use request::Request;
pub use token::Token;

/// The longest request line in bytes, without its line feed.
///
/// Only the argument of `auth` may be longer.
pub(crate) const MAX_LINE: usize = 256;

/// The longest argument of `auth` in bytes, on servers from v1.15 on.
pub(crate) const MAX_SECRET: usize = 64 * 1024;

/// The longest reply in bytes, for every request but `stats`.
pub(crate) const MAX_REPLY: usize = 1024 * 1024;

/// The longest reply to `stats` in bytes, unless the client sets another.
///
/// The reply grows with the number of keys. A v1.10.0 server writes about 125 bytes for a held key
/// (measured), so this is enough for half a million keys.
pub(crate) const MAX_STATS: usize = 64 * 1024 * 1024;

/// The lowest limit for a reply to `stats`, in bytes. A server without any key writes about 100.
pub(crate) const MIN_STATS: usize = 1024;

/// The error of a line that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;
