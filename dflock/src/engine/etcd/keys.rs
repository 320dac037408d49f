//! The names of entries and limits in etcd.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX1/s/KEY/limit` | the limit of the latest entry, a cache |
//! | `PREFIX1/s/KEY/q/ID` | an entry in the queue of a semaphore |
//! | `PREFIX1/s/KEY/q/ID.1`.. | its further permits |
//! | `PREFIX1/l/KEY/..` | the same for a lock |
//!
//! `1` is the version of the layout. KEY is percent-encoded, so that the keys of one queue are
//! exactly those that begin with `..KEY/q/`.

use std::fmt;
use std::iter;

use crate::wire::Kind;

/// The prefix of all keys of this client.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
}

/// The names of one queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueueName {
    /// `PREFIX1/s/KEY/`
    path: String,
}

/// The random id of an entry: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryId(pub(super) u64);

/// The name of an entry in its queue. It has one key for each of its permits.
#[derive(Clone, Debug)]
pub(super) struct EntryName {
    pub(super) queue: QueueName,
    pub(super) id: EntryId,
    pub(super) permits: u32,
}

/// A key of etcd below the prefix of this client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedKey {
    pub(super) kind: Kind,
    pub(super) key: String,
    pub(super) id: EntryId,
    /// The index of the permit among those of the entry.
    pub(super) permit: u32,
}

impl Layout {
    /// Returns the layout below `prefix`, which ends in a slash unless it is empty.
    pub(super) fn new(prefix: &str) -> Self {
        let separator = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        Self {
            prefix: format!("{prefix}{separator}1/"),
        }
    }

    pub(super) fn queue(&self, kind: Kind, key: &str) -> QueueName {
        let kind = match kind {
            Kind::Semaphore => 's',
            Kind::Lock => 'l',
        };
        QueueName {
            path: format!("{}{kind}/{}/", self.prefix, PercentEncoded(key)),
        }
    }

    /// Returns the first key of this layout and the end of its keys.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        prefix_range(self.prefix.clone())
    }

    /// Returns the entry that the key of etcd names. `None` for the key of a limit, and for a key
    /// that this layout does not have.
    pub(super) fn parse(&self, key: &[u8]) -> Option<ParsedKey> {
        let path = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        let mut parts = path.split('/');
        let kind = match parts.next()? {
            "s" => Kind::Semaphore,
            "l" => Kind::Lock,
            _ => return None,
        };
        let key = percent_decode(parts.next()?)?;
        let ("q", name, None) = (parts.next()?, parts.next()?, parts.next()) else {
            return None;
        };
        let (id, permit) = match name.split_once('.') {
            Some((id, permit)) => (id, permit.parse().ok()?),
            None => (name, 0),
        };
        let id = EntryId::parse(id)?;
        Some(ParsedKey {
            kind,
            key,
            id,
            permit,
        })
    }
}

impl QueueName {
    pub(super) fn limit(&self) -> Vec<u8> {
        format!("{}limit", self.path).into_bytes()
    }

    /// Returns the first key of the queue and the end of its keys.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        prefix_range(format!("{}q/", self.path))
    }
}

impl EntryName {
    /// Returns the key of the first permit. One transaction makes all permits of an entry, so it
    /// stands for the entry.
    pub(super) fn first_key(&self) -> Vec<u8> {
        format!("{}q/{}", self.queue.path, self.id).into_bytes()
    }

    /// Returns the keys of all permits.
    pub(super) fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        let further = 1..self.permits;
        let key = |permit| format!("{}q/{}.{permit}", self.queue.path, self.id).into_bytes();
        iter::once(self.first_key()).chain(further.map(key))
    }
}

impl EntryId {
    fn parse(id: &str) -> Option<Self> {
        let is_id = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = u64::from_str_radix(id, 16).ok().filter(|_| is_id)?;
        Some(Self(id))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Returns the range of the keys that begin with `prefix`, which ends in a slash.
fn prefix_range(prefix: String) -> (Vec<u8>, Vec<u8>) {
    let start = prefix.into_bytes();
    let mut end = start.clone();
    if let Some(last) = end.last_mut() {
        // A slash is never 0xff.
        *last += 1;
    }
    (start, end)
}

/// Text in which every byte is encoded that is not a letter, a digit or one of `-._~:`.
struct PercentEncoded<'a>(&'a str);

impl fmt::Display for PercentEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            decoded.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_keys_of_a_queue_are_below_its_path() {
        let queue = Layout::new("dflock/").queue(Kind::Semaphore, "report:7/a b%");
        assert_eq!(queue.limit(), b"dflock/1/s/report:7%2Fa%20b%25/limit");
        let entry = EntryName {
            queue: queue.clone(),
            id: EntryId(0xff),
            permits: 2,
        };
        let entries: Vec<_> = entry.keys().collect();
        assert_eq!(
            entries,
            [
                b"dflock/1/s/report:7%2Fa%20b%25/q/00000000000000ff".as_slice(),
                b"dflock/1/s/report:7%2Fa%20b%25/q/00000000000000ff.1"
            ]
        );
        let (start, end) = queue.range();
        assert!(entries.iter().all(|entry| *entry > start && *entry < end));
        assert!(queue.limit() < start || queue.limit() >= end);
    }

    #[test]
    fn a_prefix_ends_in_a_slash() {
        let lock = |prefix| Layout::new(prefix).queue(Kind::Lock, "k").limit();
        assert_eq!(lock("a"), b"a/1/l/k/limit");
        assert_eq!(lock("a/"), b"a/1/l/k/limit");
        assert_eq!(lock(""), b"1/l/k/limit");
    }

    #[test]
    fn foreign_keys_are_no_entries() {
        let layout = Layout::new("p/");
        for foreign in [
            "p/1/s/k/limit",
            "p/1/s/k/q/",
            "p/1/s/k/q/xyz",
            "p/1/s/k/q/00000000000000fF",
            "p/1/s/k/q/00000000000000ff.x",
            "p/1/s/k/q/00000000000000ff/y",
            "p/1/x/k/q/00000000000000ff",
            "p/1/s/%zz/q/00000000000000ff",
            "p/2/s/k/q/00000000000000ff",
            "q/1/s/k/q/00000000000000ff",
        ] {
            assert_eq!(layout.parse(foreign.as_bytes()), None, "{foreign}");
        }
    }

    proptest! {
        #[test]
        fn every_key_is_restored(prefix in "[^\u{0}]{0,8}", key in "\\PC{1,40}", id: u64, lock: bool) {
            let layout = Layout::new(&prefix);
            let kind = if lock { Kind::Lock } else { Kind::Semaphore };
            let id = EntryId(id);
            let entry = EntryName { queue: layout.queue(kind, &key), id, permits: 3 };
            for (name, permit) in entry.keys().zip(0..) {
                let parsed = ParsedKey { kind, key: key.clone(), id, permit };
                prop_assert_eq!(layout.parse(&name), Some(parsed));
            }
        }
    }
}
