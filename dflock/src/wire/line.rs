//! Lines out of a stream of bytes, with a cap.

use memchr::memchr;

/// A line grew over its cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineTooLong;

/// The room that is offered to each read: more than any reply but `stats` needs.
const ROOM: usize = 256;

/// Bytes that came and have not been taken as lines yet.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// Where the bytes that are not taken yet begin.
    start: usize,
    /// Where the bytes that came end; what is behind is room to read into.
    end: usize,
    /// How far the search for a line feed has come.
    seen: usize,
}

impl Lines {
    /// Room to read into, never empty. Tell [`filled`](Self::filled) how much of it was used.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            // mostly all was taken
            if !self.is_empty() {
                self.bytes.copy_within(self.start..self.end, 0);
            }
            self.end -= self.start;
            self.seen -= self.start;
            self.start = 0;
        }
        // doubling, so that a long line costs no more than its length
        let wanted = self.end + ROOM.max(self.end);
        if self.bytes.len() < self.end + ROOM || (self.end == 0 && self.bytes.len() > ROOM) {
            self.bytes.resize(wanted, 0);
            self.bytes.shrink_to(wanted);
        }
        &mut self.bytes[self.end..]
    }

    /// Gives back the memory of a long line, if nothing else has come yet.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() {
            self.room();
        }
    }

    /// Says that `count` bytes of the room now hold what was read.
    pub(crate) fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Takes the next whole line, without its line feed and the carriage returns before it. `None`: it is not all here yet.
    ///
    /// A line of more than `cap` bytes before its line feed is refused; what comes behind it can no longer be trusted.
    #[inline]
    pub(crate) fn take(&mut self, cap: usize) -> Result<Option<&[u8]>, LineTooLong> {
        // what was looked through before needs no second look
        if self.seen == self.end {
            Ok(None)
        } else {
            self.search(cap)
        }
    }

    /// What came and has not been taken yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes came and have not been taken yet.
    #[cfg(feature = "server")]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// How many bytes of memory it has.
    #[cfg(all(feature = "server", any(test, fuzzing)))]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether every byte that came has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn search(&mut self, cap: usize) -> Result<Option<&[u8]>, LineTooLong> {
        let Some(found) = memchr(b'\n', &self.bytes[self.seen..self.end]) else {
            self.seen = self.end;
            return if self.end - self.start > cap {
                Err(LineTooLong)
            } else {
                Ok(None)
            };
        };
        let feed = self.seen + found;
        let mut line = &self.bytes[self.start..feed];
        if line.len() > cap {
            return Err(LineTooLong);
        }
        while let [rest @ .., b'\r'] = line {
            line = rest;
        }
        self.start = feed + 1;
        self.seen = self.start;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzzing::feed;

    // T33: two lines in one segment; the second is kept
    #[test]
    fn lines_come_one_by_one_without_their_ends() {
        let mut lines = Lines::default();
        feed(&mut lines, b"ok\ntimeout\r\nque");
        assert_eq!(lines.take(256), Ok(Some(&b"ok"[..])));
        assert_eq!(lines.take(256), Ok(Some(&b"timeout"[..])));
        assert_eq!(lines.take(256), Ok(None));
        assert!(!lines.is_empty());
        #[cfg(feature = "server")]
        assert_eq!(lines.len(), 3);
        feed(&mut lines, b"ued\n");
        assert_eq!(lines.take(256), Ok(Some(&b"queued"[..])));
        assert!(lines.is_empty());
    }

    #[test]
    fn the_first_line_feed_ends_the_line() {
        for len in 0..70 {
            let mut lines = Lines::default();
            feed(&mut lines, &[vec![b'x'; len], b"\ny\n".to_vec()].concat());
            assert_eq!(
                lines.take(256).map(|line| line.map(<[u8]>::len)),
                Ok(Some(len))
            );
            assert_eq!(lines.take(256), Ok(Some(&b"y"[..])));
        }
    }

    // G06, S11, T05, P14
    #[test]
    fn the_cap_is_exact() {
        for cap in [1, 255, 256, 257, 1000] {
            let mut lines = Lines::default();
            feed(&mut lines, &[vec![b'x'; cap], b"\n".to_vec()].concat());
            assert_eq!(lines.take(cap).unwrap().unwrap().len(), cap);
            feed(&mut lines, &vec![b'x'; cap]);
            assert_eq!(lines.take(cap), Ok(None));
            feed(&mut lines, b"x");
            assert_eq!(lines.take(cap), Err(LineTooLong));
        }
    }

    #[test]
    fn memory_of_a_long_line_is_given_back() {
        let mut lines = Lines::default();
        feed(&mut lines, &[vec![b'x'; 500_000], b"\n".to_vec()].concat());
        assert!(lines.take(1 << 20).unwrap().is_some());
        lines.shrink();
        assert!(lines.bytes.capacity() <= 4 * ROOM);
        feed(&mut lines, b"ok\nque");
        assert_eq!(lines.take(256), Ok(Some(&b"ok"[..])));
        lines.shrink();
        feed(&mut lines, b"ued\n");
        assert_eq!(lines.take(256), Ok(Some(&b"queued"[..])));
    }
}
