//! Replies: one line from the server to the client.

use std::io::Write;

use memchr::memchr;

use super::line::Malformed;
use super::number::{LeaseSeconds, Seconds, parse_decimal, write_decimal};
use super::status::ErrorStatus;
use super::token::Token;
#[cfg(any(feature = "stats", feature = "server"))]
use crate::stats::Stats;

/// A granted slot, with its token and its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The token that identifies the grant.
    pub(crate) token: Token,
    /// The duration of the lease.
    pub(crate) lease: LeaseSeconds,
    /// The fence that the server sends beside the token. Servers up to v2 send none.
    pub(crate) fence: Option<u64>,
}

/// A lease that was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// The time that is left of the lease.
    pub(crate) remaining: Seconds,
    /// The fence of the grant, from servers that send it.
    pub(crate) fence: Option<u64>,
}

/// A reply.
///
/// Parsing does not check that it is one to the request that was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// `ok`
    Ok,
    /// `ok SECONDS [FENCE]`
    Renewed(Renewal),
    /// `ok TOKEN LEASE [FENCE]`
    Granted(Grant),
    /// `acquired TOKEN LEASE [FENCE]`
    Acquired(Grant),
    /// `queued`
    Queued,
    /// `timeout`
    Timeout,
    /// `ok JSON`
    #[cfg(any(feature = "stats", feature = "server"))]
    Stats(Box<Stats>),
    /// `error`, `error_*`
    Error(ErrorStatus),
}

impl Reply {
    /// Appends the line with its line feed.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ok => out.extend_from_slice(b"ok"),
            Self::Renewed(renewal) => {
                out.extend_from_slice(b"ok ");
                write_decimal(out, renewal.remaining.get());
                encode_fence(renewal.fence, out);
            }
            Self::Granted(grant) => grant.encode(b"ok ", out),
            Self::Acquired(grant) => grant.encode(b"acquired ", out),
            Self::Queued => out.extend_from_slice(b"queued"),
            Self::Timeout => out.extend_from_slice(b"timeout"),
            #[cfg(any(feature = "stats", feature = "server"))]
            Self::Stats(stats) => {
                out.extend_from_slice(b"ok ");
                // Neither writing to a `Vec` nor serializing a field of `Stats` can fail.
                _ = serde_json::to_writer(&mut *out, stats);
            }
            // Writing to a `Vec` cannot fail.
            Self::Error(status) => _ = write!(out, "{status}"),
        }
        out.push(b'\n');
    }

    /// Parses a line without its line feed.
    pub(crate) fn decode(line: &[u8]) -> Result<Self, Malformed> {
        match line {
            b"ok" => return Ok(Self::Ok),
            b"queued" => return Ok(Self::Queued),
            b"timeout" => return Ok(Self::Timeout),
            _ => {}
        }
        let decoded = if let Some(rest) = line.strip_prefix(b"ok ") {
            match Grant::parse(rest) {
                Some(grant) => Some(Self::Granted(grant)),
                #[cfg(any(feature = "stats", feature = "server"))]
                // Parse the line in place: a copy of the text would double the memory.
                None if rest.starts_with(b"{") => {
                    serde_json::from_slice(rest).ok().map(Self::Stats)
                }
                None => Renewal::parse(rest).map(Self::Renewed),
            }
        } else if let Some(rest) = line.strip_prefix(b"acquired ") {
            Grant::parse(rest).map(Self::Acquired)
        } else {
            std::str::from_utf8(line)
                .ok()
                .and_then(ErrorStatus::parse)
                .map(Self::Error)
        };
        decoded.ok_or(Malformed)
    }
}

impl Grant {
    fn parse(line: &[u8]) -> Option<Self> {
        let (token, rest) = line.split_at_checked(Token::LEN)?;
        let (token, rest) = (Token::parse(token)?, rest.strip_prefix(b" ")?);
        let (lease, fence) = parse_with_fence(rest, LeaseSeconds::parse)?;
        Some(Self {
            token,
            lease,
            fence,
        })
    }

    fn encode(&self, word: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(word);
        out.extend_from_slice(self.token.as_bytes());
        out.push(b' ');
        write_decimal(out, self.lease.get());
        encode_fence(self.fence, out);
    }
}

impl Renewal {
    /// Returns whether this can be a renewal of `grant`.
    ///
    /// Returns false if the server has sent both fences and they differ.
    pub(crate) fn belongs_to(&self, grant: &Grant) -> bool {
        self.fence.is_none() || grant.fence.is_none() || self.fence == grant.fence
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (remaining, fence) = parse_with_fence(line, Seconds::parse)?;
        Some(Self { remaining, fence })
    }
}

impl From<LeaseSeconds> for Renewal {
    fn from(lease: LeaseSeconds) -> Self {
        Self {
            remaining: lease.into(),
            fence: None,
        }
    }
}

/// Parses `SECONDS` or `SECONDS FENCE`.
fn parse_with_fence<'a, T>(
    text: &'a [u8],
    seconds: impl Fn(&'a [u8]) -> Option<T>,
) -> Option<(T, Option<u64>)> {
    match memchr(b' ', text) {
        Some(space) => Some((
            seconds(&text[..space])?,
            Some(parse_decimal(&text[space + 1..])?),
        )),
        None => Some((seconds(text)?, None)),
    }
}

fn encode_fence(fence: Option<u64>, out: &mut Vec<u8>) {
    if let Some(fence) = fence {
        out.push(b' ');
        write_decimal(out, fence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TOKEN: &str = "00000000000000010123456789abcdef";

    fn grant(lease: u64) -> Grant {
        let lease = LeaseSeconds::new(Duration::from_secs(lease)).unwrap();
        Grant {
            token: Token::parse(TOKEN).unwrap(),
            lease,
            fence: None,
        }
    }

    fn fenced(lease: u64, fence: u64) -> Grant {
        Grant {
            fence: Some(fence),
            ..grant(lease)
        }
    }

    fn bytes(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    // G03: each status has a variant of its name.
    #[test]
    fn every_reply_is_encoded_and_decoded() {
        let renewed = |seconds, fence| {
            let remaining = Seconds::round_up(Duration::from_secs(seconds)).unwrap();
            Reply::Renewed(Renewal { remaining, fence })
        };
        let replies = [
            (Reply::Ok, "ok\n".to_owned()),
            (renewed(45, None), "ok 45\n".to_owned()),
            // T40: a renewal may have no time left.
            (renewed(0, None), "ok 0\n".to_owned()),
            (renewed(45, Some(7)), "ok 45 7\n".to_owned()),
            (renewed(0, Some(0)), "ok 0 0\n".to_owned()),
            (Reply::Granted(grant(30)), format!("ok {TOKEN} 30\n")),
            (Reply::Acquired(grant(33)), format!("acquired {TOKEN} 33\n")),
            (Reply::Granted(fenced(30, 7)), format!("ok {TOKEN} 30 7\n")),
            (Reply::Granted(fenced(1, 0)), format!("ok {TOKEN} 1 0\n")),
            (
                Reply::Acquired(fenced(33, u64::MAX)),
                format!("acquired {TOKEN} 33 18446744073709551615\n"),
            ),
            (Reply::Queued, "queued\n".to_owned()),
            (Reply::Timeout, "timeout\n".to_owned()),
            #[cfg(any(feature = "stats", feature = "server"))]
            (
                Reply::Stats(Box::new(Stats {
                    connections: 1,
                    ..Stats::default()
                })),
                concat!(
                    r#"ok {"connections":1,"locks":[],"semaphores":[],"#,
                    r#""idle_locks":[],"idle_semaphores":[]}"#,
                    "\n"
                )
                .to_owned(),
            ),
            (
                Reply::Error(ErrorStatus::NotLeader(None)),
                "error_not_leader\n".to_owned(),
            ),
            (
                Reply::Error(ErrorStatus::NotLeader(Some("10.0.0.2:6388".into()))),
                "error_not_leader 10.0.0.2:6388\n".to_owned(),
            ),
            (
                Reply::Error(ErrorStatus::Unknown("error_quota 7 left".into())),
                "error_quota 7 left\n".to_owned(),
            ),
        ];
        let statuses = ErrorStatus::LIST
            .iter()
            .map(|(status, word)| (Reply::Error(status.clone()), format!("{word}\n")));
        for (reply, expected) in replies.into_iter().chain(statuses) {
            assert_eq!(bytes(&reply), expected.as_bytes());
            assert_eq!(
                Reply::decode(expected.trim_end_matches('\n').as_bytes()),
                Ok(reply)
            );
        }
    }

    // T17, T23, T35, T38, T40, P06, P20, P33, P34
    #[test]
    fn malformed_replies_are_refused() {
        let with_token = |before: &str, after: &str| format!("{before}{TOKEN}{after}");
        for bad in [
            String::new(),
            "ok ".into(),
            "ok30".into(),
            "okay 30".into(),
            "ok  30".into(),
            "ok 30 ".into(),
            "ok 30 30 30".into(),
            "ok 30 7 ".into(),
            "ok 30  7".into(),
            "ok 30 x".into(),
            "ok 30 0x7".into(),
            "ok 30 7f".into(),
            "ok 30 1.0".into(),
            "ok 30 -1".into(),
            "ok 30 +1".into(),
            "ok 30\t7".into(),
            "ok 30 18446744073709551616".into(),
            "ok  7".into(),
            "ok {".into(),
            "ok {}".into(),
            "ok {\"connections\":-1}".into(),
            "ok {\"connections\":1} 7".into(),
            "OK".into(),
            " ok".into(),
            "ok -1".into(),
            "ok NaN".into(),
            "ok 30x".into(),
            "ok 1.5".into(),
            "ok 9223372037".into(),
            "ok 1000000000000000000000000000000".into(),
            with_token("ok ", ""),
            with_token("ok ", " "),
            with_token("ok ", " 0"),
            with_token("ok ", " -1"),
            with_token("ok ", " NaN"),
            with_token("ok ", " abc"),
            with_token("ok ", "  30"),
            with_token("ok ", " 30 "),
            with_token("ok ", " 30 7 "),
            with_token("ok ", " 30  7"),
            with_token("ok ", " 30 1 1"),
            with_token("ok ", " 30 x"),
            with_token("ok ", " 30 7f"),
            with_token("ok ", " 30 -1"),
            with_token("ok ", " 30 +1"),
            with_token("ok ", " 30 1.0"),
            with_token("ok ", " 30 \u{663}"),
            with_token("ok ", " 30 18446744073709551616"),
            with_token("ok ", " 0 7"),
            with_token("ok ", " x 7"),
            with_token("ok ", "  7"),
            with_token("acquired ", " 33 "),
            with_token("acquired ", " 33 -1"),
            with_token("acquired ", " 33 +1"),
            with_token("acquired ", " 33 7 7"),
            with_token("ok ", "0 30"),
            with_token("ok  ", " 30"),
            with_token("acquired ", ""),
            with_token("acquired ", " 0"),
            with_token("acquiredx ", " 30"),
            "acquired".into(),
            "acquired tok".into(),
            "acquiredx".into(),
            "queued 1".into(),
            "queuedx".into(),
            "timeout 1".into(),
            "error 1".into(),
            "error_".into(),
            "errors".into(),
            "error_auth x".into(),
            "error_Bad".into(),
            "error_a-b".into(),
            format!("error_{}", "x".repeat(300)),
            "garbage".into(),
        ] {
            assert_eq!(Reply::decode(bad.as_bytes()), Err(Malformed), "{bad:?}");
        }
        assert_eq!(Reply::decode(b"error_\xff"), Err(Malformed));
        assert_eq!(Reply::decode(b"ok {\"key\":\"\xff\"}"), Err(Malformed));
    }
}
