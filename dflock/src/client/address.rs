//! Addresses of servers: `host:port`.

use std::net::{IpAddr, Ipv6Addr};

use crate::error::{AddressErrorKind, ConfigError, strip_user_info};

/// Checks the addresses of a client's servers. Does not resolve them.
///
/// User info is refused first, at any position in the list. A comma in a password splits an address
/// in two, and an error about the first half would show the start of the password.
fn check_addresses<'a>(servers: impl Iterator<Item = &'a str> + Clone) -> Result<(), ConfigError> {
    if let Some(server) = servers
        .clone()
        .find(|server| strip_user_info(server).is_some())
    {
        return Err(ConfigError::address(server, AddressErrorKind::UserInfo));
    }
    for server in servers {
        validate_address(server).map_err(|why| ConfigError::address(server, why))?;
    }
    Ok(())
}

/// The addresses of a client's servers, each `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    Dflockd(Vec<String>),
    /// Members of one cluster of etcd.
    Etcd(Vec<String>),
}

/// The schemes of addresses. One without a scheme is a server of dflockd.
const DFLOCKD: &str = "dflockd://";
const ETCD: &str = "etcd://";

impl Servers {
    /// Parses the addresses. Does not resolve them.
    pub(super) fn parse<'a>(
        servers: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, ConfigError> {
        check_addresses(servers.clone().map(without_scheme))?;
        let is_etcd = |server: &&str| server.starts_with(ETCD);
        let etcd = servers.clone().find(is_etcd);
        let dflockd = servers.clone().find(|server| !is_etcd(server));
        let addresses = servers
            .map(|server| without_scheme(server).to_owned())
            .collect();
        match (dflockd, etcd) {
            (None, None) => Err(ConfigError::NoServers),
            (Some(dflockd), Some(etcd)) => Err(ConfigError::MixedServers {
                dflockd: dflockd.to_owned(),
                etcd: etcd.to_owned(),
            }),
            (Some(_), None) => Ok(Self::Dflockd(addresses)),
            (None, Some(_)) if cfg!(feature = "etcd") => Ok(Self::Etcd(addresses)),
            (None, Some(etcd)) => Err(ConfigError::MissingFeature {
                address: etcd.to_owned(),
                feature: "etcd",
            }),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let (Self::Dflockd(addresses) | Self::Etcd(addresses)) = self;
        addresses.iter().map(String::as_str)
    }
}

fn without_scheme(server: &str) -> &str {
    let address = server
        .strip_prefix(DFLOCKD)
        .or_else(|| server.strip_prefix(ETCD));
    address.unwrap_or(server)
}

/// Returns `server` if it is an address, and otherwise a placeholder that contains no part of it.
pub(super) fn printable_address(server: &str) -> &str {
    if validate_address(without_scheme(server)).is_ok() {
        server
    } else {
        "(refused)"
    }
}

/// Returns whether `server`, a `host:port`, is a loopback address, so that data that is sent to it
/// stays on this machine.
pub fn is_local(server: &str) -> bool {
    let host = server
        .rsplit_once(':')
        .map_or(server, |(host, _)| host)
        .trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn validate_address(text: &str) -> Result<(), AddressErrorKind> {
    if strip_user_info(text).is_some() {
        return Err(AddressErrorKind::UserInfo);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressErrorKind::BadHost)?;
            host.parse::<Ipv6Addr>()
                .map_err(|_| AddressErrorKind::BadHost)?;
            (
                host,
                port.strip_prefix(':').ok_or(AddressErrorKind::NoPort)?,
            )
        }
        None => text.rsplit_once(':').ok_or(AddressErrorKind::NoPort)?,
    };
    if host.is_empty() {
        return Err(AddressErrorKind::NoHost);
    }
    let is_forbidden =
        |c: char| matches!(c, ':' | '/' | '?' | '#') || c.is_whitespace() || c.is_control();
    if !text.starts_with('[') && host.contains(is_forbidden) {
        return Err(AddressErrorKind::BadHost);
    }
    if port.is_empty() {
        return Err(AddressErrorKind::NoPort);
    }
    let in_range =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if in_range {
        Ok(())
    } else {
        Err(AddressErrorKind::BadPort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in [
            "127.0.0.1:6388",
            "lock-1:1",
            "lock_1.example.com:65535",
            "[::1]:6388",
            "localhost:80",
        ] {
            assert_eq!(validate_address(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", AddressErrorKind::NoPort),
            ("localhost", AddressErrorKind::NoPort),
            ("localhost:", AddressErrorKind::NoPort),
            ("[::1]", AddressErrorKind::NoPort),
            (":6388", AddressErrorKind::NoHost),
            ("localhost:0", AddressErrorKind::BadPort),
            ("localhost:65536", AddressErrorKind::BadPort),
            ("localhost:x", AddressErrorKind::BadPort),
            ("localhost:+1", AddressErrorKind::BadPort),
            ("localhost:-1", AddressErrorKind::BadPort),
            ("::1:6388", AddressErrorKind::BadHost),
            ("[::x]:6388", AddressErrorKind::BadHost),
            ("[::1:6388", AddressErrorKind::BadHost),
            ("a b:6388", AddressErrorKind::BadHost),
            ("tcp://a:6388", AddressErrorKind::BadHost),
            ("a?b:6388", AddressErrorKind::BadHost),
            ("a\n:6388", AddressErrorKind::BadHost),
            ("hush@a:6388", AddressErrorKind::UserInfo),
            ("hush%40a:6388", AddressErrorKind::UserInfo),
        ] {
            assert_eq!(validate_address(bad), Err(why), "{bad:?}");
        }
    }

    #[cfg(not(feature = "etcd"))]
    #[test]
    fn a_member_of_etcd_needs_the_feature() {
        let servers = ["etcd://e1:2379", "etcd://e2:2379"];
        let error = crate::Client::builder().servers(servers).build();
        let error = error.unwrap_err();
        assert_eq!(
            error,
            ConfigError::MissingFeature {
                address: "etcd://e1:2379".to_owned(),
                feature: "etcd",
            }
        );
        let message = error.to_string();
        assert!(message.contains("feature `etcd`"), "{message}");
        // Another mistake in the list is reported first.
        let servers = ["etcd://e1:2379", "lock-1:6388"];
        let error = crate::Client::builder().servers(servers).build();
        assert!(matches!(error, Err(ConfigError::MixedServers { .. })));
    }
}
