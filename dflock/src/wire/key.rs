//! Keys, and the locks and semaphores that they name.

use std::fmt;
use std::sync::Arc;

use super::line::MAX_LINE;
use super::number::Limit;

/// A borrowed key: 1 to 256 bytes without space, tab, line break or NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a>(&'a str);

impl<'a> Key<'a> {
    /// Creates a key from `text` if the protocol allows it.
    pub(crate) fn new(text: &'a str) -> Result<Self, KeyErrorKind> {
        if text.is_empty() {
            return Err(KeyErrorKind::Empty);
        }
        if text.len() > MAX_LINE {
            return Err(KeyErrorKind::TooLong { bytes: text.len() });
        }
        match text
            .chars()
            .find(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\0'))
        {
            Some(found) => Err(KeyErrorKind::Forbidden { found }),
            None => Ok(Self(text)),
        }
    }

    /// Returns the key as text.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }
}

/// An owned [`Key`], cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyBuf(Arc<str>);

impl KeyBuf {
    /// Creates a key from `text` if the protocol allows it.
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Result<Self, KeyErrorKind> {
        let text = text.into();
        Key::new(&text)?;
        Ok(Self(text))
    }

    /// Returns the key as a borrowed one.
    pub(crate) fn as_key(&self) -> Key<'_> {
        Key(&self.0)
    }

    /// Returns the key as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key as shared text.
    pub(crate) fn as_shared(&self) -> &Arc<str> {
        &self.0
    }
}

/// The reason why a key is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyErrorKind {
    /// An empty text.
    Empty,
    /// More bytes than a line of the protocol may have.
    TooLong {
        /// The number of bytes.
        bytes: usize,
    },
    /// A character that the protocol does not allow.
    Forbidden {
        /// The first such character.
        found: char,
    },
}

impl fmt::Display for KeyErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty")?,
            Self::TooLong { bytes } => write!(f, "it has {bytes} bytes")?,
            Self::Forbidden { found } => write!(f, "it contains {found:?}")?,
        }
        write!(
            f,
            "; a key is 1 to {MAX_LINE} bytes without space, tab, line break or NUL"
        )
    }
}

/// The kind of a key: locks and semaphores have separate commands.
///
/// On servers from v1.14 on, a lock and a semaphore of the same name are different keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `l e w r n`
    Lock,
    /// `sl se sw sr sn`
    Semaphore,
}

/// A lock, or a semaphore with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primitive {
    /// A lock, with one holder.
    Lock,
    /// A semaphore, with up to its limit of holders.
    Semaphore(Limit),
}

impl Primitive {
    /// Returns the kind of the commands.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Lock => Kind::Lock,
            Self::Semaphore(_) => Kind::Semaphore,
        }
    }

    /// Returns the number of clients that may hold the key at the same time.
    pub(crate) fn limit(self) -> Limit {
        match self {
            Self::Lock => Limit::ONE,
            Self::Semaphore(limit) => limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // T16, P21, N10
    #[test]
    fn keys_are_one_word_of_1_to_256_bytes() {
        assert_eq!(Key::new("").unwrap_err(), KeyErrorKind::Empty);
        for found in [' ', '\t', '\r', '\n', '\0'] {
            assert_eq!(
                Key::new(&format!("a{found}b")).unwrap_err(),
                KeyErrorKind::Forbidden { found }
            );
        }
        let longest = "k".repeat(256);
        assert_eq!(Key::new(&longest).unwrap().as_str(), longest);
        assert_eq!(
            Key::new(&"k".repeat(257)).unwrap_err(),
            KeyErrorKind::TooLong { bytes: 257 }
        );
        assert_eq!(
            Key::new(&"é".repeat(129)).unwrap_err(),
            KeyErrorKind::TooLong { bytes: 258 }
        );
        assert_eq!(KeyBuf::new("键☃").unwrap().as_str(), "键☃");
    }
}
