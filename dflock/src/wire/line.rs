//! Lines of limited length, and a read buffer that splits a stream of bytes into them.

use memchr::memchr;

/// The longest request line in bytes, without its line feed.
///
/// Only the argument of `auth` may be longer.
pub(crate) const MAX_LINE: usize = 256;

/// The longest argument of `auth` in bytes, on servers from v1.15 on.
pub(crate) const MAX_AUTH_TOKEN: usize = 64 * 1024;

/// The longest reply in bytes, for every request but `stats`.
pub(crate) const MAX_REPLY: usize = 1024 * 1024;

/// The longest reply to `stats` in bytes, unless the client sets another.
///
/// The reply grows with the number of keys. A v1.10.0 server writes about 125 bytes for a held key
/// (measured), so this is enough for half a million keys.
pub(crate) const MAX_STATS: usize = 64 * 1024 * 1024;

/// The lowest limit for a reply to `stats`, in bytes. A server without any key writes about 100.
pub(crate) const MIN_STATS: usize = 1024;

/// The error of a line that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The error of a line that is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTooLong;

/// The least space that each read gets, in bytes: more than any reply but `stats` needs.
const MIN_SPACE: usize = 256;

/// A buffer of received bytes that are not consumed as lines yet.
#[derive(Debug, Default)]
pub(crate) struct LineBuffer {
    bytes: Vec<u8>,
    /// The start of the bytes that are not consumed yet.
    start: usize,
    /// The end of the received bytes. The space after it is free for the next read.
    end: usize,
    /// The end of the bytes that were searched for a line feed.
    searched: usize,
}

impl LineBuffer {
    /// Returns free space for the next read, which is never empty.
    ///
    /// After the read, call [`advance`](Self::advance) with the number of bytes that were read.
    pub(crate) fn spare_capacity(&mut self) -> &mut [u8] {
        if self.start > 0 {
            // Usually all bytes are consumed, and there is none to move.
            if !self.is_empty() {
                self.bytes.copy_within(self.start..self.end, 0);
            }
            self.end -= self.start;
            self.searched -= self.start;
            self.start = 0;
        }
        // Double the space, so that the cost of a long line is linear in its length.
        let wanted = self.end + MIN_SPACE.max(self.end);
        if self.bytes.len() < self.end + MIN_SPACE
            || (self.end == 0 && self.bytes.len() > MIN_SPACE)
        {
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to(wanted);
        }
        &mut self.bytes[self.end..]
    }

    /// Frees the memory of a long line, unless there are bytes that are not consumed yet.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.spare_capacity();
        }
    }

    /// Adds the first `count` bytes of the free space to the received bytes.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Consumes and returns the next line, without its line feed and carriage returns before it.
    ///
    /// Returns `None` if the line is not complete yet.
    ///
    /// # Errors
    ///
    /// [`LineTooLong`] for more than `max` bytes before the line feed. The buffer is not usable
    /// afterwards.
    #[inline]
    pub(crate) fn next_line(&mut self, max: usize) -> Result<Option<&[u8]>, LineTooLong> {
        // Bytes that were searched before are not searched again.
        if self.searched == self.end {
            Ok(None)
        } else {
            self.search(max)
        }
    }

    /// Returns the received bytes that are not consumed yet.
    pub(crate) fn remaining(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Returns the number of received bytes that are not consumed yet.
    #[cfg(feature = "server")]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Returns the allocated size of the buffer in bytes.
    #[cfg(all(feature = "server", any(test, fuzzing)))]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns whether all received bytes are consumed.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Appends `bytes` as socket reads would.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let spare = self.spare_capacity();
            let count = spare.len().min(bytes.len());
            spare[..count].copy_from_slice(&bytes[..count]);
            self.advance(count);
            bytes = &bytes[count..];
        }
    }

    fn search(&mut self, max: usize) -> Result<Option<&[u8]>, LineTooLong> {
        let Some(found) = memchr(b'\n', &self.bytes[self.searched..self.end]) else {
            self.searched = self.end;
            return if self.end - self.start > max {
                Err(LineTooLong)
            } else {
                Ok(None)
            };
        };
        let newline = self.searched + found;
        let mut line = &self.bytes[self.start..newline];
        if line.len() > max {
            return Err(LineTooLong);
        }
        while let [rest @ .., b'\r'] = line {
            line = rest;
        }
        self.start = newline + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // T33: of two lines in one segment, the second is kept.
    #[test]
    fn lines_are_returned_one_by_one_without_line_endings() {
        let mut lines = LineBuffer::default();
        lines.append(b"ok\ntimeout\r\nque");
        assert_eq!(lines.next_line(256), Ok(Some(&b"ok"[..])));
        assert_eq!(lines.next_line(256), Ok(Some(&b"timeout"[..])));
        assert_eq!(lines.next_line(256), Ok(None));
        assert!(!lines.is_empty());
        #[cfg(feature = "server")]
        assert_eq!(lines.len(), 3);
        lines.append(b"ued\n");
        assert_eq!(lines.next_line(256), Ok(Some(&b"queued"[..])));
        assert!(lines.is_empty());
    }

    #[test]
    fn the_first_line_feed_ends_the_line() {
        for len in 0..70 {
            let mut lines = LineBuffer::default();
            lines.append(&[vec![b'x'; len], b"\ny\n".to_vec()].concat());
            assert_eq!(
                lines.next_line(256).map(|line| line.map(<[u8]>::len)),
                Ok(Some(len))
            );
            assert_eq!(lines.next_line(256), Ok(Some(&b"y"[..])));
        }
    }

    // G06, S11, T05, P14
    #[test]
    fn the_length_limit_is_exact() {
        for cap in [1, 255, 256, 257, 1000] {
            let mut lines = LineBuffer::default();
            lines.append(&[vec![b'x'; cap], b"\n".to_vec()].concat());
            assert_eq!(lines.next_line(cap).unwrap().unwrap().len(), cap);
            lines.append(&vec![b'x'; cap]);
            assert_eq!(lines.next_line(cap), Ok(None));
            lines.append(b"x");
            assert_eq!(lines.next_line(cap), Err(LineTooLong));
        }
    }

    #[test]
    fn memory_of_a_long_line_is_freed() {
        let mut lines = LineBuffer::default();
        lines.append(&[vec![b'x'; 500_000], b"\n".to_vec()].concat());
        assert!(lines.next_line(1 << 20).unwrap().is_some());
        lines.shrink();
        assert!(lines.bytes.capacity() <= 4 * MIN_SPACE);
        lines.append(b"ok\nque");
        assert_eq!(lines.next_line(256), Ok(Some(&b"ok"[..])));
        lines.shrink();
        lines.append(b"ued\n");
        assert_eq!(lines.next_line(256), Ok(Some(&b"queued"[..])));
    }
}
