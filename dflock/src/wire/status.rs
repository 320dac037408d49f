//! The statuses of error replies.

use std::fmt;

/// The longest error reply in bytes. A longer one is malformed.
const MAX_STATUS: usize = 256;

/// Defines [`ErrorStatus`] from a list of variants and their words on the wire.
macro_rules! error_statuses {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// The status of an error reply.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum ErrorStatus {
            $(#[doc = concat!("`", $word, "`:")] $(#[$doc])* $variant,)*
            /// `error_not_leader [host:port]`: the server does not lead its cluster.
            NotLeader(Option<Box<str>>),
            /// The whole line of a status that this version does not know.
            Unknown(Box<str>),
        }

        impl ErrorStatus {
            /// Returns the status with this word, if it is in the list.
            fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The statuses of the list, with their words.
            #[cfg(test)]
            pub(super) const LIST: &[(Self, &str)] = &[$((Self::$variant, $word),)*];
        }

        impl fmt::Display for ErrorStatus {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($word),)*
                    Self::NotLeader(None) => f.write_str(NOT_LEADER),
                    Self::NotLeader(Some(leader)) => write!(f, "{NOT_LEADER} {leader}"),
                    Self::Unknown(line) => f.write_str(line),
                }
            }
        }
    };
}

// A new status is one entry of this list. `Error::from_reply` turns it into `Error::Refused`, which
// shows the word, unless it names a separate variant of `Error` for it.
error_statuses! {
    /// the request is malformed, or its token holds no slot.
    Unspecified = "error",
    /// the client has not authenticated, or its auth token is wrong.
    Auth = "error_auth",
    /// the server has reached its maximum number of keys.
    MaxLocks = "error_max_locks",
    /// the queue of the key is full.
    MaxWaiters = "error_max_waiters",
    /// the key is in use with another limit.
    LimitMismatch = "error_limit_mismatch",
    /// the connection has no enqueue of the key to wait for.
    NotEnqueued = "error_not_enqueued",
    /// the connection has an enqueue of the key already.
    AlreadyEnqueued = "error_already_enqueued",
    /// the lease of the granted slot expired before its `wait`.
    LeaseExpired = "error_lease_expired",
    /// the server is shutting down.
    Draining = "error_draining",
}

/// The word of [`ErrorStatus::NotLeader`], which may have an argument.
const NOT_LEADER: &str = "error_not_leader";

impl ErrorStatus {
    /// Parses a line without its line feed.
    pub(super) fn parse(line: &str) -> Option<Self> {
        // Errors are printed on terminals, which interpret control characters.
        if line.len() > MAX_STATUS || line.contains(char::is_control) {
            return None;
        }
        let (word, argument) = match line.split_once(' ') {
            Some((word, argument)) => (word, Some(argument)),
            None => (line, None),
        };
        if let Some(status) = Self::from_word(word) {
            return argument.is_none().then_some(status);
        }
        if word == NOT_LEADER {
            let leader = argument.filter(|leader| !leader.is_empty());
            return Some(Self::NotLeader(leader.map(Into::into)));
        }
        let name = word.strip_prefix("error_")?;
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_name.then(|| Self::Unknown(line.into()))
    }
}
