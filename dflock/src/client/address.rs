//! Addresses of servers: `host:port`.

use std::net::{IpAddr, Ipv6Addr};

use crate::error::{AddressFault, ConfigError, after_user_info};

/// Checks the addresses of a client's servers, without a look-up.
///
/// User info is refused first, wherever in the list it is: a comma in a password splits an address
/// in two, and the error of the first half would show the beginning of the password.
pub(super) fn check_addresses<'a>(servers: impl Iterator<Item = &'a str> + Clone) -> Result<(), ConfigError> {
    if let Some(server) = servers.clone().find(|server| after_user_info(server).is_some()) {
        return Err(ConfigError::address(server, AddressFault::UserInfo));
    }
    for server in servers {
        host_and_port(server).map_err(|why| ConfigError::address(server, why))?;
    }
    Ok(())
}

/// Returns `server` if it is an address, and else a text in its place that holds nothing of it.
pub(super) fn printable(server: &str) -> &str {
    if host_and_port(server).is_ok() { server } else { "(refused)" }
}

/// Returns whether data that is sent to `server` stays on this machine.
pub(super) fn is_local(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']']);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn host_and_port(text: &str) -> Result<(), AddressFault> {
    if after_user_info(text).is_some() {
        return Err(AddressFault::UserInfo);
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(AddressFault::BadHost)?;
            host.parse::<Ipv6Addr>().map_err(|_| AddressFault::BadHost)?;
            (host, port.strip_prefix(':').ok_or(AddressFault::NoPort)?)
        }
        None => text.rsplit_once(':').ok_or(AddressFault::NoPort)?,
    };
    if host.is_empty() {
        return Err(AddressFault::NoHost);
    }
    let is_forbidden = |c: char| matches!(c, ':' | '/' | '?' | '#') || c.is_whitespace() || c.is_control();
    if !text.starts_with('[') && host.contains(is_forbidden) {
        return Err(AddressFault::BadHost);
    }
    if port.is_empty() {
        return Err(AddressFault::NoPort);
    }
    let in_range = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if in_range { Ok(()) } else { Err(AddressFault::BadPort) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:6388", "lock-1:1", "lock_1.example.com:65535", "[::1]:6388", "localhost:80"] {
            assert_eq!(host_and_port(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", AddressFault::NoPort),
            ("localhost", AddressFault::NoPort),
            ("localhost:", AddressFault::NoPort),
            ("[::1]", AddressFault::NoPort),
            (":6388", AddressFault::NoHost),
            ("localhost:0", AddressFault::BadPort),
            ("localhost:65536", AddressFault::BadPort),
            ("localhost:x", AddressFault::BadPort),
            ("localhost:+1", AddressFault::BadPort),
            ("localhost:-1", AddressFault::BadPort),
            ("::1:6388", AddressFault::BadHost),
            ("[::x]:6388", AddressFault::BadHost),
            ("[::1:6388", AddressFault::BadHost),
            ("a b:6388", AddressFault::BadHost),
            ("tcp://a:6388", AddressFault::BadHost),
            ("a?b:6388", AddressFault::BadHost),
            ("a\n:6388", AddressFault::BadHost),
            ("hush@a:6388", AddressFault::UserInfo),
            ("hush%40a:6388", AddressFault::UserInfo),
        ] {
            assert_eq!(host_and_port(bad), Err(why), "{bad:?}");
        }
    }
}
