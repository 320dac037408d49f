//! The floor for many workers: one thread that waits for all sockets at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::Result;
use crate::contender::Load;
use crate::raw::{REPLY, Requests, dial, is_released};
use crate::round::{Log, Round, Watch};

/// How many events are taken at once.
const EVENTS: usize = 256;

/// Runs all workers on this thread. `fresh`: each cycle has a connection of its own.
pub(crate) fn run(load: &Load, fresh: bool) -> Result<Round> {
    if !load.hold.is_zero() {
        return Err("one thread for all cannot sleep while it holds".into());
    }
    let server = load.only_server()?;
    let mut field = Field {
        server,
        epoll: epoll::create(CreateFlags::CLOEXEC)?,
        workers: Vec::new(),
    };
    for index in 0..load.workers {
        let stream = dial(server)?;
        field.watch(&stream, index)?;
        let now = Instant::now();
        let requests = Requests::new(load, index);
        field.workers.push(Worker {
            stream,
            requests,
            reply: [0; REPLY],
            len: 0,
            asked: now,
            got: None,
            log: Log::default(),
        });
    }
    field.work(load.warm_up() * load.workers, fresh)?;
    for worker in &mut field.workers {
        worker.log = Log::default();
    }
    let watch = Watch::start();
    field.work(load.cycles, fresh)?;
    let logs: Vec<_> = field.workers.into_iter().map(|worker| worker.log).collect();
    Ok(watch.stop(&logs))
}

struct Field {
    server: SocketAddr,
    epoll: OwnedFd,
    workers: Vec<Worker>,
}

struct Worker {
    stream: TcpStream,
    requests: Requests,
    reply: [u8; REPLY],
    len: usize,
    asked: Instant,
    /// Since when it has a slot.
    got: Option<Instant>,
    log: Log,
}

impl Field {
    fn watch(&self, stream: &TcpStream, index: u32) -> Result<()> {
        Ok(epoll::add(
            &self.epoll,
            stream.as_fd(),
            EventData::new_u64(index.into()),
            EventFlags::IN,
        )?)
    }

    /// Makes `cycles` in all.
    fn work(&mut self, cycles: u32, fresh: bool) -> Result<()> {
        let mut left = cycles;
        let mut busy = 0;
        for worker in &mut self.workers {
            if left > 0 {
                left -= 1;
                busy += 1;
                worker.begin(Instant::now())?;
            }
        }
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        while busy > 0 {
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), None)?;
            for event in &events {
                let index = u32::try_from(event.data.u64())?;
                if !self.workers[index as usize].go_on()? {
                    continue;
                }
                if left == 0 {
                    busy -= 1;
                    continue;
                }
                left -= 1;
                let now = Instant::now();
                if fresh {
                    let stream = dial(self.server)?;
                    self.watch(&stream, index)?;
                    self.workers[index as usize].stream = stream;
                }
                self.workers[index as usize].begin(now)?;
            }
        }
        Ok(())
    }
}

impl Worker {
    fn begin(&mut self, now: Instant) -> Result<()> {
        self.asked = now;
        Ok(self.stream.write_all(self.requests.acquire())?)
    }

    /// Reads; releases what was granted. Whether a cycle is over.
    fn go_on(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.reply[self.len..])? {
            0 => return Err("the server closed the connection".into()),
            count => self.len += count,
        }
        let reply = &self.reply[..self.len];
        if !reply.ends_with(b"\n") {
            return Ok(false);
        }
        self.len = 0;
        match self.got.take() {
            None => {
                let got = Instant::now();
                self.stream.write_all(self.requests.release(reply)?)?;
                self.got = Some(got);
                Ok(false)
            }
            Some(got) => {
                is_released(reply)?;
                self.log.note(self.asked, got, got);
                Ok(true)
            }
        }
    }
}
