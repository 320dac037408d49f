//! The auth token that servers and clients share.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::file::{self, FileSource, Reloadable};
use crate::error::{
    AuthErrorKind, AuthTokenErrorKind, AuthTokenFileErrorKind, ConfigError, invisible,
};
use crate::wire::MAX_AUTH_TOKEN;

const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// An auth token. It is never printed, and wiped from memory when it is dropped.
pub(crate) struct AuthToken(Zeroizing<String>);

impl AuthToken {
    /// Returns the token of `text`, or `None` if `text` is empty. Removes a byte order mark at its
    /// start, and refuses a text that the protocol cannot transmit.
    pub(crate) fn new(mut text: Zeroizing<String>) -> Result<Option<Self>, AuthTokenErrorKind> {
        if text.starts_with(BYTE_ORDER_MARK) {
            text.remove(0);
        }
        Self::parse(text)
    }

    fn parse(text: Zeroizing<String>) -> Result<Option<Self>, AuthTokenErrorKind> {
        if text.len() > MAX_AUTH_TOKEN {
            Err(AuthTokenErrorKind::TooLong)
        } else if text.contains(['\n', '\r', '\0']) {
            Err(AuthTokenErrorKind::Forbidden)
        } else if text.trim() != *text {
            Err(AuthTokenErrorKind::Padded)
        } else if let Some(character) = invisible::find_at_edge(&text) {
            Err(AuthTokenErrorKind::Invisible { character })
        } else {
            Ok((!text.is_empty()).then_some(Self(text)))
        }
    }

    /// Returns the token in the content of a file, without white space around it.
    fn from_file_content(bytes: &[u8]) -> Result<Self, AuthTokenFileErrorKind> {
        let text = str::from_utf8(bytes).map_err(|_| AuthTokenFileErrorKind::NotUtf8)?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim();
        let token = Self::parse(Zeroizing::new(text.to_owned()));
        let token = token.map_err(AuthTokenFileErrorKind::Invalid)?;
        token.ok_or(AuthTokenFileErrorKind::Empty)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the token is too long for servers before v1.15, which close the connection.
    pub(crate) fn is_long(&self) -> bool {
        self.0.len() > 256
    }

    /// Returns the kind of failure if a server replies `error` to the token. The server requires no
    /// token, or is an old one for which the token is too long.
    pub(crate) fn error_reply_kind(&self) -> AuthErrorKind {
        if self.is_long() {
            AuthErrorKind::TooLong
        } else {
            AuthErrorKind::Unneeded
        }
    }
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthToken(…)")
    }
}

/// A file that contains an auth token.
pub(crate) struct AuthTokenFile(PathBuf);

impl AuthTokenFile {
    /// Reads the token from the file `path`, now and again when the file has changed. Anything but a
    /// regular file, such as a pipe, is read once.
    pub(crate) fn open(path: PathBuf) -> Result<Reloadable<Self>, ConfigError> {
        let file = Self(path);
        if file::is_regular(&file.0) {
            Reloadable::open(file)
        } else {
            file.parse(fs::read(&file.0).map(Zeroizing::new))
                .map(Reloadable::from_value)
        }
    }

    fn parse(&self, read: io::Result<Zeroizing<Vec<u8>>>) -> Result<AuthToken, ConfigError> {
        let token = match read {
            Ok(bytes) => AuthToken::from_file_content(&bytes),
            // The value may be the auth token itself, which no error may show.
            Err(error) if !file::may_show_path(&self.0, &error) => {
                let kind = AuthTokenFileErrorKind::NotPath {
                    error: error.to_string(),
                };
                return Err(ConfigError::AuthTokenFile { file: None, kind });
            }
            Err(error) => Err(AuthTokenFileErrorKind::Unreadable {
                error: error.to_string(),
            }),
        };
        token.map_err(|kind| ConfigError::AuthTokenFile {
            file: Some(self.0.clone()),
            kind,
        })
    }
}

impl FileSource for AuthTokenFile {
    type Value = AuthToken;

    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&*self.0)
    }

    fn load(&self) -> Result<AuthToken, ConfigError> {
        self.parse(file::read_regular(&self.0))
    }
}
