//! Requests: three lines from the client to the server.

use super::key::{Key, Kind, Primitive};
use super::line::Malformed;
use super::number::{LeaseSeconds, Limit, Seconds, write_decimal};
use super::token::Token;

/// A request. Without a `lease`, the default of the server applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// `l`, `sl`: acquires a slot, and waits in the queue for at most `wait`.
    Acquire {
        key: Key<'a>,
        primitive: Primitive,
        wait: Seconds,
        lease: Option<LeaseSeconds>,
    },
    /// `e`, `se`: joins the queue without waiting.
    Enqueue {
        key: Key<'a>,
        primitive: Primitive,
        lease: Option<LeaseSeconds>,
    },
    /// `w`, `sw`: waits in the queue after `e` or `se`.
    Wait {
        key: Key<'a>,
        kind: Kind,
        wait: Seconds,
    },
    /// `r`, `sr`: releases the slot.
    Release {
        key: Key<'a>,
        kind: Kind,
        token: Token,
    },
    /// `n`, `sn`: renews the lease.
    Renew {
        key: Key<'a>,
        kind: Kind,
        token: Token,
        lease: Option<LeaseSeconds>,
    },
    /// `auth`: authenticates the connection with the auth token.
    Auth { token: &'a str },
    /// `ping`: checks that the server answers.
    Ping,
    /// `stats`: requests the keys of the server with their holders and waiters.
    Stats,
}

impl<'a> Request<'a> {
    /// Returns the key and the kind of the slot that a reply may grant.
    pub(crate) fn slot(&self) -> Option<(Key<'a>, Kind)> {
        match *self {
            Self::Acquire { key, primitive, .. } | Self::Enqueue { key, primitive, .. } => {
                Some((key, primitive.kind()))
            }
            _ => None,
        }
    }

    /// Appends the three lines with their line feeds.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Acquire {
                key,
                primitive,
                wait,
                lease,
            } => {
                encode_command(out, primitive.kind(), b'l', key);
                write_decimal(out, wait.get());
                encode_limit(out, b" ", primitive);
                encode_lease(out, b" ", lease);
            }
            Self::Enqueue {
                key,
                primitive,
                lease,
            } => {
                encode_command(out, primitive.kind(), b'e', key);
                encode_limit(out, b"", primitive);
                let space: &[u8] = if primitive == Primitive::Lock {
                    b""
                } else {
                    b" "
                };
                encode_lease(out, space, lease);
            }
            Self::Wait { key, kind, wait } => {
                encode_command(out, kind, b'w', key);
                write_decimal(out, wait.get());
            }
            Self::Release { key, kind, token } => {
                encode_command(out, kind, b'r', key);
                out.extend_from_slice(token.as_bytes());
            }
            Self::Renew {
                key,
                kind,
                token,
                lease,
            } => {
                encode_command(out, kind, b'n', key);
                out.extend_from_slice(token.as_bytes());
                encode_lease(out, b" ", lease);
            }
            Self::Auth { token } => {
                // Reserve space for the whole request: growing while the token is written would
                // leave a copy of it in freed memory.
                out.reserve("auth\n_\n\n".len() + token.len());
                out.extend_from_slice(b"auth\n_\n");
                out.extend_from_slice(token.as_bytes());
            }
            Self::Ping => out.extend_from_slice(b"ping\n_\n_"),
            Self::Stats => out.extend_from_slice(b"stats\n_\n_"),
        }
        out.push(b'\n');
    }

    /// Parses the three lines of a request.
    #[cfg_attr(
        not(feature = "server"),
        allow(dead_code, reason = "requests are decoded by the server")
    )]
    pub(crate) fn decode(
        command: &'a str,
        key: &'a str,
        argument: &'a str,
    ) -> Result<Self, Malformed> {
        match command {
            "auth" => {
                return Ok(Self::Auth {
                    token: argument.trim(),
                });
            }
            "ping" => return Ok(Self::Ping),
            "stats" => return Ok(Self::Stats),
            _ => {}
        }
        let (kind, verb) = match command.strip_prefix('s') {
            Some(verb) => (Kind::Semaphore, verb),
            None => (Kind::Lock, command),
        };
        if !matches!(verb, "l" | "e" | "w" | "r" | "n") {
            return Err(Malformed);
        }
        let key = Key::new(key).map_err(|_| Malformed)?;
        let mut words = argument.split_ascii_whitespace();
        let request = match verb {
            "l" => {
                let wait = words.next().and_then(Seconds::parse).ok_or(Malformed)?;
                let primitive = parse_primitive(kind, &mut words)?;
                Self::Acquire {
                    key,
                    primitive,
                    wait,
                    lease: parse_lease(&mut words)?,
                }
            }
            "e" => Self::Enqueue {
                key,
                primitive: parse_primitive(kind, &mut words)?,
                lease: parse_lease(&mut words)?,
            },
            "w" => Self::Wait {
                key,
                kind,
                wait: words.next().and_then(Seconds::parse).ok_or(Malformed)?,
            },
            "r" => Self::Release {
                key,
                kind,
                token: parse_token(&mut words)?,
            },
            _ => Self::Renew {
                key,
                kind,
                token: parse_token(&mut words)?,
                lease: parse_lease(&mut words)?,
            },
        };
        words.next().is_none().then_some(request).ok_or(Malformed)
    }
}

/// Appends the lines of the command and of the key.
fn encode_command(out: &mut Vec<u8>, kind: Kind, verb: u8, key: Key<'_>) {
    if kind == Kind::Semaphore {
        out.push(b's');
    }
    out.extend_from_slice(&[verb, b'\n']);
    out.extend_from_slice(key.as_str().as_bytes());
    out.push(b'\n');
}

/// Appends the limit of a semaphore, with `space` before it.
fn encode_limit(out: &mut Vec<u8>, space: &[u8], primitive: Primitive) {
    if let Primitive::Semaphore(limit) = primitive {
        out.extend_from_slice(space);
        write_decimal(out, limit.get().into());
    }
}

/// Appends the lease, if there is one, with `space` before it.
fn encode_lease(out: &mut Vec<u8>, space: &[u8], lease: Option<LeaseSeconds>) {
    if let Some(lease) = lease {
        out.extend_from_slice(space);
        write_decimal(out, lease.get());
    }
}

fn parse_primitive<'a>(
    kind: Kind,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<Primitive, Malformed> {
    match kind {
        Kind::Lock => Ok(Primitive::Lock),
        Kind::Semaphore => words
            .next()
            .and_then(Limit::parse)
            .map(Primitive::Semaphore)
            .ok_or(Malformed),
    }
}

fn parse_lease<'a>(
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<Option<LeaseSeconds>, Malformed> {
    words
        .next()
        .map(|word| LeaseSeconds::parse(word).ok_or(Malformed))
        .transpose()
}

fn parse_token<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<Token, Malformed> {
    words.next().and_then(Token::parse).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const TOKEN: &str = "00000000000000010123456789abcdef";

    fn bytes(request: Request<'_>) -> String {
        let mut out = Vec::new();
        request.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_request_is_encoded() {
        let key = Key::new("pool").unwrap();
        let token = Token::parse(TOKEN).unwrap();
        let wait = Seconds::round_up(Duration::from_secs(10)).unwrap();
        let lease = LeaseSeconds::new(Duration::from_secs(30));
        let five = Primitive::Semaphore(Limit::new(5).unwrap());
        let (lock, semaphore) = (Kind::Lock, Kind::Semaphore);
        for (request, expected) in [
            (
                Request::Acquire {
                    key,
                    primitive: five,
                    wait,
                    lease,
                },
                "sl\npool\n10 5 30\n".to_owned(),
            ),
            (
                Request::Acquire {
                    key,
                    primitive: five,
                    wait,
                    lease: None,
                },
                "sl\npool\n10 5\n".to_owned(),
            ),
            (
                Request::Acquire {
                    key,
                    primitive: Primitive::Lock,
                    wait,
                    lease,
                },
                "l\npool\n10 30\n".to_owned(),
            ),
            (
                Request::Acquire {
                    key,
                    primitive: Primitive::Lock,
                    wait,
                    lease: None,
                },
                "l\npool\n10\n".to_owned(),
            ),
            (
                Request::Enqueue {
                    key,
                    primitive: five,
                    lease,
                },
                "se\npool\n5 30\n".to_owned(),
            ),
            (
                Request::Enqueue {
                    key,
                    primitive: five,
                    lease: None,
                },
                "se\npool\n5\n".to_owned(),
            ),
            (
                Request::Enqueue {
                    key,
                    primitive: Primitive::Lock,
                    lease,
                },
                "e\npool\n30\n".to_owned(),
            ),
            (
                Request::Enqueue {
                    key,
                    primitive: Primitive::Lock,
                    lease: None,
                },
                "e\npool\n\n".to_owned(),
            ),
            (
                Request::Wait {
                    key,
                    kind: semaphore,
                    wait,
                },
                "sw\npool\n10\n".to_owned(),
            ),
            (
                Request::Wait {
                    key,
                    kind: lock,
                    wait: Seconds::MAX,
                },
                "w\npool\n9223372036\n".to_owned(),
            ),
            (
                Request::Release {
                    key,
                    kind: semaphore,
                    token,
                },
                format!("sr\npool\n{TOKEN}\n"),
            ),
            (
                Request::Release {
                    key,
                    kind: lock,
                    token,
                },
                format!("r\npool\n{TOKEN}\n"),
            ),
            (
                Request::Renew {
                    key,
                    kind: semaphore,
                    token,
                    lease,
                },
                format!("sn\npool\n{TOKEN} 30\n"),
            ),
            (
                Request::Renew {
                    key,
                    kind: lock,
                    token,
                    lease: None,
                },
                format!("n\npool\n{TOKEN}\n"),
            ),
            (
                Request::Auth { token: "s3cret" },
                "auth\n_\ns3cret\n".to_owned(),
            ),
            (Request::Ping, "ping\n_\n_\n".to_owned()),
            // P07: the argument is never empty.
            (Request::Stats, "stats\n_\n_\n".to_owned()),
        ] {
            assert_eq!(bytes(request), expected);
        }
    }

    // Growing a second time would leave a copy of the token behind.
    #[test]
    fn space_for_the_auth_token_is_reserved_before_it_is_written() {
        for length in [1, 100, 256, 257, 4096, crate::wire::MAX_AUTH_TOKEN] {
            let token = "x".repeat(length);
            let (mut out, mut reserved) = (Vec::new(), Vec::<u8>::new());
            reserved.reserve("auth\n_\n\n".len() + length);
            Request::Auth { token: &token }.encode(&mut out);
            assert_eq!(
                (out.capacity(), out.len()),
                (reserved.capacity(), "auth\n_\n\n".len() + length)
            );
        }
    }

    // S12 and the transcript of bad requests.
    #[test]
    fn malformed_requests_are_refused() {
        let with_token = |rest: &str| format!("{TOKEN}{rest}");
        for (command, key, argument) in [
            ("sl", "k 1", "0 1".to_owned()),
            ("sl", "", "0 1".to_owned()),
            ("sl", "k", "x 1".to_owned()),
            ("sl", "k", "-1 1".to_owned()),
            ("sl", "k", "0 0".to_owned()),
            ("sl", "k", "0 -2".to_owned()),
            ("sl", "k", "0 1 0".to_owned()),
            ("sl", "k", "0.5 1".to_owned()),
            ("sl", "k", "0".to_owned()),
            ("sl", "k", "0 1 30 9".to_owned()),
            ("sl", "k", "0 1048577".to_owned()),
            ("sl", "k", "9223372037 1".to_owned()),
            ("sr", "k", String::new()),
            ("sn", "k", String::new()),
            ("sn", "k", with_token(" x")),
            ("sn", "k", with_token(" 0")),
            ("sn", "k", with_token(" 1 1")),
            ("sr", "k", with_token(" 1")),
            ("sr", "k", "short".to_owned()),
            ("se", "k", "0".to_owned()),
            ("se", "k", "1 0".to_owned()),
            ("se", "k", String::new()),
            ("e", "k", "30 junk".to_owned()),
            ("e", "k", "0".to_owned()),
            ("sw", "k", String::new()),
            ("sw", "k", "-1".to_owned()),
            ("w", "k", "1 1".to_owned()),
            ("zz", "k", "1".to_owned()),
            ("SL", "k", "0 1".to_owned()),
            ("ssl", "k", "0 1".to_owned()),
            ("", "k", "0 1".to_owned()),
            ("s", "k", "0 1".to_owned()),
            ("l", "a\tb", "0".to_owned()),
            ("l", "a\0b", "0".to_owned()),
        ] {
            assert_eq!(
                Request::decode(command, key, &argument),
                Err(Malformed),
                "{command:?} {key:?} {argument:?}"
            );
        }
    }

    #[test]
    fn ping_and_stats_need_no_key() {
        assert_eq!(Request::decode("stats", "", ""), Ok(Request::Stats));
        assert_eq!(Request::decode("ping", "_", "_"), Ok(Request::Ping));
    }

    fn arguments() -> impl Strategy<Value = (String, u64, Option<u64>, Option<u32>, bool)> {
        let lease = prop::option::of(1u64..=9_223_372_036);
        let limit = prop::option::of(1u32..=1_048_576);
        (
            "[^ \t\r\n\0]{1,60}",
            0u64..=9_223_372_036,
            lease,
            limit,
            any::<bool>(),
        )
    }

    proptest! {
        #[test]
        fn requests_round_trip(
            (key, wait, lease, limit, semaphore) in arguments(),
            digits in "[0-9a-f]{32}",
        ) {
            let key = Key::new(&key).unwrap();
            let token = Token::parse(&digits).unwrap();
            let wait = Seconds::round_up(Duration::from_secs(wait)).unwrap();
            let lease = lease.and_then(|s| LeaseSeconds::new(Duration::from_secs(s)));
            let limit = limit.and_then(Limit::new);
            let primitive = limit.map_or(Primitive::Lock, Primitive::Semaphore);
            let kind = if semaphore { Kind::Semaphore } else { Kind::Lock };
            for request in [
                Request::Acquire { key, primitive, wait, lease },
                Request::Enqueue { key, primitive, lease },
                Request::Wait { key, kind, wait },
                Request::Release { key, kind, token },
                Request::Renew { key, kind, token, lease },
            ] {
                let text = bytes(request);
                let lines: Vec<&str> = text.split('\n').collect();
                prop_assert_eq!(lines.len(), 4);
                prop_assert_eq!(Request::decode(lines[0], lines[1], lines[2]), Ok(request));
            }
        }
    }
}
