//! Keys that the wire can carry.

use std::fmt;
use std::sync::Arc;

use super::MAX_LINE;

/// A borrowed key: 1 to 256 bytes without space, tab, line break or NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key<'a>(&'a str);

impl<'a> Key<'a> {
    /// Takes `text` as a key if the wire can carry it.
    pub(crate) fn new(text: &'a str) -> Result<Self, InvalidKey> {
        if text.is_empty() {
            return Err(InvalidKey::Empty);
        }
        if text.len() > MAX_LINE {
            return Err(InvalidKey::TooLong { bytes: text.len() });
        }
        match text
            .chars()
            .find(|c| matches!(c, ' ' | '\t' | '\r' | '\n' | '\0'))
        {
            Some(found) => Err(InvalidKey::Forbidden { found }),
            None => Ok(Self(text)),
        }
    }

    /// The key as it was given.
    pub(crate) fn as_str(self) -> &'a str {
        self.0
    }
}

/// An owned [`Key`], cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyBuf(Arc<str>);

impl KeyBuf {
    /// Takes `text` as a key if the wire can carry it.
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidKey> {
        let text = text.into();
        Key::new(&text)?;
        Ok(Self(text))
    }

    /// Borrows it.
    pub(crate) fn as_key(&self) -> Key<'_> {
        Key(&self.0)
    }

    /// The key as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text itself, shared.
    pub(crate) fn as_shared(&self) -> &Arc<str> {
        &self.0
    }
}

/// Why a text cannot be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidKey {
    /// There is nothing in it.
    Empty,
    /// It has more bytes than a line of the wire.
    TooLong {
        /// How many it has.
        bytes: usize,
    },
    /// It has a character that the wire cannot carry.
    Forbidden {
        /// The first such character.
        found: char,
    },
}

impl fmt::Display for InvalidKey {
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

#[cfg(test)]
mod tests {
    use super::*;

    // T16, P21, N10
    #[test]
    fn keys_are_one_word_of_1_to_256_bytes() {
        assert_eq!(Key::new("").unwrap_err(), InvalidKey::Empty);
        for found in [' ', '\t', '\r', '\n', '\0'] {
            assert_eq!(
                Key::new(&format!("a{found}b")).unwrap_err(),
                InvalidKey::Forbidden { found }
            );
        }
        let longest = "k".repeat(256);
        assert_eq!(Key::new(&longest).unwrap().as_str(), longest);
        assert_eq!(
            Key::new(&"k".repeat(257)).unwrap_err(),
            InvalidKey::TooLong { bytes: 257 }
        );
        assert_eq!(
            Key::new(&"é".repeat(129)).unwrap_err(),
            InvalidKey::TooLong { bytes: 258 }
        );
        assert_eq!(KeyBuf::new("键☃").unwrap().as_str(), "键☃");
    }
}
