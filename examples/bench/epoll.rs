//! Floor for many workers: one thread that waits for all sockets with epoll.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::Result;
use crate::contender::Load;
use crate::raw::{MAX_REPLY, Requests, check_released, connect};
use crate::round::{Round, Samples, Stopwatch};

/// Maximum number of events of one `epoll_wait`.
const MAX_EVENTS: usize = 256;

/// Runs all workers on this thread. With `reconnect`, each cycle opens a new connection.
pub(crate) fn run(load: &Load, reconnect: bool) -> Result<Round> {
    if !load.hold.is_zero() {
        return Err("the epoll contender cannot hold slots: one thread serves all workers".into());
    }
    let server = load.only_server()?;
    let mut event_loop = EventLoop {
        server,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        workers: Vec::new(),
    };
    for index in 0..load.workers {
        let stream = connect(server)?;
        event_loop.register(&stream, index)?;
        let now = Instant::now();
        let requests = Requests::new(load, index);
        event_loop.workers.push(Worker {
            stream,
            requests,
            reply: [0; MAX_REPLY],
            reply_len: 0,
            start: now,
            granted: None,
            samples: Samples::default(),
        });
    }
    event_loop.run_cycles(load.warm_up() * load.workers, reconnect)?;
    for worker in &mut event_loop.workers {
        worker.samples = Samples::default();
    }
    let stopwatch = Stopwatch::start();
    event_loop.run_cycles(load.cycles, reconnect)?;
    let samples: Vec<_> = event_loop
        .workers
        .into_iter()
        .map(|worker| worker.samples)
        .collect();
    Ok(stopwatch.stop(&samples))
}

/// The workers, and the epoll instance that watches their sockets.
struct EventLoop {
    server: SocketAddr,
    epoll: OwnedFd,
    workers: Vec<Worker>,
}

/// A connection and the state of its cycle.
struct Worker {
    stream: TcpStream,
    requests: Requests,
    reply: [u8; MAX_REPLY],
    reply_len: usize,
    start: Instant,
    /// Time of the grant, while the worker holds a slot.
    granted: Option<Instant>,
    samples: Samples,
}

impl EventLoop {
    fn register(&self, stream: &TcpStream, index: u32) -> Result<()> {
        Ok(epoll::add(
            &self.epoll,
            stream.as_fd(),
            EventData::new_u64(index.into()),
            EventFlags::IN,
        )?)
    }

    /// Runs `cycles` cycles, of all workers together.
    fn run_cycles(&mut self, cycles: u32, reconnect: bool) -> Result<()> {
        let mut remaining = cycles;
        let mut busy = 0;
        for worker in &mut self.workers {
            if remaining > 0 {
                remaining -= 1;
                busy += 1;
                worker.send_acquire(Instant::now())?;
            }
        }
        let mut events: Vec<Event> = Vec::with_capacity(MAX_EVENTS);
        while busy > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            for event in &events {
                let index = u32::try_from(event.data.u64())?;
                if !self.workers[index as usize].handle_readable()? {
                    continue;
                }
                if remaining == 0 {
                    busy -= 1;
                    continue;
                }
                remaining -= 1;
                let now = Instant::now();
                if reconnect {
                    let stream = connect(self.server)?;
                    self.register(&stream, index)?;
                    self.workers[index as usize].stream = stream;
                }
                self.workers[index as usize].send_acquire(now)?;
            }
        }
        Ok(())
    }
}

impl Worker {
    fn send_acquire(&mut self, now: Instant) -> Result<()> {
        self.start = now;
        Ok(self.stream.write_all(self.requests.acquire())?)
    }

    /// Reads from the socket, and sends the release after a grant.
    ///
    /// Returns whether the cycle is complete.
    fn handle_readable(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.reply[self.reply_len..])? {
            0 => return Err("the server closed the connection".into()),
            count => self.reply_len += count,
        }
        let reply = &self.reply[..self.reply_len];
        if !reply.ends_with(b"\n") {
            return Ok(false);
        }
        self.reply_len = 0;
        match self.granted.take() {
            None => {
                let granted = Instant::now();
                self.stream.write_all(self.requests.release(reply)?)?;
                self.granted = Some(granted);
                Ok(false)
            }
            Some(granted) => {
                check_released(reply)?;
                self.samples.record(self.start, granted, granted);
                Ok(true)
            }
        }
    }
}
