//! One direction of a connection: bytes that are on their way, and when they arrive.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

/// What travels.
#[derive(Debug)]
pub(super) enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// What a reader finds.
pub(super) enum Found {
    Bytes(usize),
    Fin,
    Reset,
    /// Nothing before this moment.
    Later(Instant),
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// With the time of arrival; `None` while it is held up.
    queue: VecDeque<(Option<Instant>, Parcel)>,
    last: Option<Instant>,
    reader: Option<Waker>,
    /// Nothing more goes in.
    pub(super) closed: bool,
    /// Nobody reads any more.
    deaf: bool,
    /// How many faults hold it up.
    stalls: u32,
    /// Whether one ever did, or reset it.
    pub(super) hindered: bool,
}

impl Pipe {
    pub(super) fn stalled(stalls: u32) -> Self {
        Self {
            stalls,
            hindered: stalls > 0,
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, parcel: Parcel, now: Instant, latency: Duration) {
        match parcel {
            Parcel::Fin if self.closed => return,
            Parcel::Reset => {
                self.queue.clear();
                self.hindered = true;
            }
            _ => {}
        }
        self.closed |= !matches!(parcel, Parcel::Bytes(_));
        if !self.deaf || self.closed {
            let at = (self.stalls == 0).then(|| self.stamp(now, latency));
            self.queue.push_back((at, parcel));
        }
        self.wake();
    }

    pub(super) fn read(&mut self, now: Instant, room: &mut [u8], waker: &Waker) -> Found {
        self.reader = Some(waker.clone());
        match self.queue.front_mut() {
            None | Some((None, _)) => Found::Nothing,
            Some((Some(at), _)) if *at > now => Found::Later(*at),
            // what ends a connection stays there for whoever reads again
            Some((_, Parcel::Fin)) => Found::Fin,
            Some((_, Parcel::Reset)) => Found::Reset,
            Some((_, Parcel::Bytes(bytes))) => {
                let count = bytes.len().min(room.len());
                room[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if bytes.is_empty() {
                    self.queue.pop_front();
                }
                Found::Bytes(count)
            }
        }
    }

    /// When the reader can know that the connection has ended.
    pub(super) fn end_arrives(&self) -> Option<Instant> {
        let (at, last) = self.queue.back()?;
        if matches!(last, Parcel::Bytes(_)) {
            None
        } else {
            *at
        }
    }

    /// Whether the other side has reset it, and that has arrived.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        matches!(self.queue.front(), Some((Some(at), Parcel::Reset)) if *at <= now)
    }

    /// Holds up what is on its way; with `all` what has arrived and was not read, too.
    pub(super) fn stall(&mut self, now: Instant, all: bool) {
        self.stalls += 1;
        self.hindered = true;
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

    /// Nobody reads any more: only the end is still of interest, to whoever looks when it would have arrived.
    pub(super) fn deafen(&mut self) {
        self.deaf = true;
        self.queue
            .retain(|(_, parcel)| !matches!(parcel, Parcel::Bytes(_)));
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
