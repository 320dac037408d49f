//! Errors of server addresses, and the part of an address that an error may show.

use std::fmt;

/// The reason why a server address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressErrorKind {
    /// No host.
    NoHost,
    /// No port.
    NoPort,
    /// A port that is not a number from 1 to 65535.
    BadPort,
    /// A host with a character that is not allowed in host names.
    BadHost,
    /// A user name or a password before an `@`.
    UserInfo,
}

impl fmt::Display for AddressErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "it has no host",
            Self::NoPort => "it has no port",
            Self::BadPort => "its port is not a number from 1 to 65535",
            Self::BadHost => "its host name is invalid",
            Self::UserInfo => {
                "user and password are not allowed in an address (the auth token is the option \
                 `auth`)"
            }
        })
    }
}

/// Returns the part of `address` that may be shown.
///
/// User info and query are left out, because a password may be in either:
/// `redis://:PASSWORD@lock-1:6388/0`.
pub(crate) fn public_part(address: &str) -> &str {
    match strip_user_info(address) {
        Some(rest) => rest.split(['/', '?', '#']).next().unwrap_or_default(),
        None => address.split(['?', '#']).next().unwrap_or_default(),
    }
}

/// Returns the text after the last `@`, if there is one.
///
/// The `@` may be percent-encoded any number of times: `%40`, `%2540`.
pub(crate) fn strip_user_info(address: &str) -> Option<&str> {
    let plain = address.rsplit_once('@').map(|(_, rest)| rest);
    let encoded = address.match_indices('%').filter_map(|(index, percent)| {
        let mut code = &address[index + percent.len()..];
        while let Some(rest) = code.strip_prefix("25") {
            code = rest;
        }
        code.strip_prefix("40")
    });
    encoded.chain(plain).min_by_key(|rest| rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_before_an_at_sign_is_public() {
        for (address, public) in [
            ("redis://:hunter2@lock-1:6388/0", "lock-1:6388"),
            ("tcp://user:hunter2@lock-1:6388", "lock-1:6388"),
            ("user:hunter2@lock-1:6388", "lock-1:6388"),
            ("hunter2@[::1]:6388", "[::1]:6388"),
            ("user:hunter2@", ""),
            ("user:hun@ter2@lock-1:6388", "lock-1:6388"),
            ("user:hunter2%40lock-1:6388", "lock-1:6388"),
            ("user:hunter2%2540lock-1:6388", "lock-1:6388"),
            ("user:hunter2%252540lock-1:6388", "lock-1:6388"),
            ("user:hun%40ter2@lock-1:6388", "lock-1:6388"),
            ("user:hun@ter2%40lock-1:6388", "lock-1:6388"),
            ("hun/ter2?@lock-1:6388/0?password=hunter2", "lock-1:6388"),
            (
                "redis://lock-1:6388/0?password=hunter2",
                "redis://lock-1:6388/0",
            ),
            ("lock-1:6388#hunter2", "lock-1:6388"),
            ("tcp://lock-1:6388", "tcp://lock-1:6388"),
            ("a%20b:1", "a%20b:1"),
            ("☃%40☃:1%", "☃:1%"),
        ] {
            assert_eq!(public_part(address), public, "{address}");
        }
    }
}
