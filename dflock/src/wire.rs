//! The wire protocol: requests and replies in both directions, without IO.
//!
//! A request is three lines (`command\n key\n argument\n`), and a reply is one. Received lines are
//! parsed into types that can hold only values that the protocol allows. Code outside of this
//! module does not validate a number or a key again. `status` has the list of the statuses of error
//! replies.

mod key;
mod line;
mod number;
mod reply;
mod request;
mod status;
mod token;

pub use key::KeyErrorKind;
pub(crate) use key::{Key, KeyBuf, Kind, Primitive};
pub(crate) use line::{LineBuffer, MAX_AUTH_TOKEN, MAX_REPLY, MAX_STATS, MIN_STATS};
#[cfg(feature = "server")]
pub(crate) use line::{MAX_LINE, Malformed};
pub(crate) use number::{LeaseSeconds, Limit, Seconds};
pub(crate) use reply::{Grant, Reply};
pub(crate) use request::Request;
pub(crate) use status::ErrorStatus;
pub use token::Token;
