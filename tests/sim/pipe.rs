//! One direction of a connection: a queue of segments with arrival times.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

/// Unit of transmission.
#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// Outcome of a read.
pub(super) enum ReadOutcome {
    Bytes(usize),
    Fin,
    Reset,
    /// No data before this time.
    NotBefore(Instant),
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Segments with their arrival times; `None` while a fault holds the segment back.
    queue: VecDeque<(Option<Instant>, Segment)>,
    last: Option<Instant>,
    reader: Option<Waker>,
    /// True if a FIN or a reset was sent.
    pub(super) closed: bool,
    /// True if the reader was dropped.
    reader_closed: bool,
    /// Number of faults that hold the direction back.
    stalls: u32,
    /// True if a fault ever held it back or reset it.
    pub(super) disturbed: bool,
}

impl Pipe {
    pub(super) fn stalled(stalls: u32) -> Self {
        Self {
            stalls,
            disturbed: stalls > 0,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, segment: Segment, now: Instant, latency: Duration) {
        match segment {
            Segment::Fin if self.closed => return,
            Segment::Reset => {
                self.queue.clear();
                self.disturbed = true;
            }
            _ => {}
        }
        self.closed |= !matches!(segment, Segment::Bytes(_));
        if !self.reader_closed || self.closed {
            let at = (self.stalls == 0).then(|| self.stamp(now, latency));
            self.queue.push_back((at, segment));
        }
        self.wake();
    }

    pub(super) fn read(&mut self, now: Instant, buffer: &mut [u8], waker: &Waker) -> ReadOutcome {
        self.reader = Some(waker.clone());
        match self.queue.front_mut() {
            None | Some((None, _)) => ReadOutcome::Nothing,
            Some((Some(at), _)) if *at > now => ReadOutcome::NotBefore(*at),
            // The end of a connection stays in the queue, so that every later read finds it.
            Some((_, Segment::Fin)) => ReadOutcome::Fin,
            Some((_, Segment::Reset)) => ReadOutcome::Reset,
            Some((_, Segment::Bytes(bytes))) => {
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if bytes.is_empty() {
                    self.queue.pop_front();
                }
                ReadOutcome::Bytes(count)
            }
        }
    }

    /// Returns the time at which the reader can notice the end of the connection.
    pub(super) fn end_arrives(&self) -> Option<Instant> {
        let (at, last) = self.queue.back()?;
        if matches!(last, Segment::Bytes(_)) {
            None
        } else {
            *at
        }
    }

    /// Returns whether a reset by the other side has arrived.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        matches!(self.queue.front(), Some((Some(at), Segment::Reset)) if *at <= now)
    }

    /// Holds back the segments that have not arrived; with `all` those that were not read, too.
    pub(super) fn stall(&mut self, now: Instant, all: bool) {
        self.stalls += 1;
        self.disturbed = true;
        for (at, _) in &mut self.queue {
            if all || at.is_some_and(|at| at > now) {
                *at = None;
            }
        }
    }

    pub(super) fn heal(&mut self, now: Instant, latency: Duration) {
        self.stalls -= 1;
        if self.stalls == 0 {
            self.last = None;
            let at = self.stamp(now, latency);
            self.queue
                .iter_mut()
                .filter(|(arrival, _)| arrival.is_none())
                .for_each(|(arrival, _)| *arrival = Some(at));
            self.wake();
        }
    }

    /// Drops the reader. Only the end of the stream stays in the queue, for `end_arrives`.
    pub(super) fn close_reader(&mut self) {
        self.reader_closed = true;
        self.queue
            .retain(|(_, segment)| !matches!(segment, Segment::Bytes(_)));
    }

    fn stamp(&mut self, now: Instant, latency: Duration) -> Instant {
        let at = self
            .last
            .map_or(now + latency, |last| last.max(now + latency));
        self.last = Some(at);
        at
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
