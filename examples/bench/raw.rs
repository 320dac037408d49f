//! The floor: blocking sockets that do only what a cycle needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::Result;
use crate::contender::Load;
use crate::round::{Left, Log, Round, on_threads};

/// Runs a thread for each worker. `dial`: each cycle has a connection of its own.
pub(crate) fn run(load: &Load, dial: bool) -> Result<Round> {
    let server = load.only_server()?;
    let left = Left::new(load.cycles);
    let make = |index| {
        let mut worker = Worker {
            server,
            stream: None,
            requests: Requests::new(load, index),
            reply: [0; REPLY],
        };
        for _ in 0..load.warm_up() {
            worker.cycle(load, dial)?;
        }
        Ok(worker)
    };
    on_threads(load.workers, make, |mut worker| {
        let mut log = Log::default();
        while left.take() {
            let (asked, got, released) = worker.cycle(load, dial)?;
            log.note(asked, got, released);
        }
        Ok(log)
    })
}

/// Room for any reply to an acquire or a release.
pub(crate) const REPLY: usize = 128;

/// The bytes of one worker's two requests.
pub(crate) struct Requests {
    acquire: Vec<u8>,
    release: Vec<u8>,
    /// Where the token goes in `release`.
    token: usize,
}

impl Requests {
    pub(crate) fn new(load: &Load, index: u32) -> Self {
        let key = load.key(index);
        let release = format!("sr\n{key}\n").into_bytes();
        Self {
            acquire: format!("sl\n{key}\n10 {}\n", load.limit).into_bytes(),
            token: release.len(),
            release,
        }
    }

    pub(crate) fn acquire(&self) -> &[u8] {
        &self.acquire
    }

    /// The release of the slot that `granted` is the reply for.
    pub(crate) fn release(&mut self, granted: &[u8]) -> Result<&[u8]> {
        let token = granted
            .strip_prefix(b"ok ")
            .and_then(|rest| rest.split(|&b| b == b' ').next());
        let token = token.ok_or_else(|| unexpected(granted))?;
        self.release.truncate(self.token);
        self.release.extend_from_slice(token);
        self.release.push(b'\n');
        Ok(&self.release)
    }
}

/// Whether `reply` is the one to a release.
pub(crate) fn is_released(reply: &[u8]) -> Result<()> {
    if reply == b"ok\n" {
        Ok(())
    } else {
        Err(unexpected(reply))
    }
}

/// A new connection.
pub(crate) fn dial(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct Worker {
    server: SocketAddr,
    stream: Option<TcpStream>,
    requests: Requests,
    reply: [u8; REPLY],
}

impl Worker {
    fn cycle(&mut self, load: &Load, fresh: bool) -> Result<(Instant, Instant, Instant)> {
        let asked = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => dial(self.server)?,
        };
        let granted = ask(&mut stream, self.requests.acquire(), &mut self.reply)?;
        let got = Instant::now();
        if !load.hold.is_zero() {
            std::thread::sleep(load.hold);
        }
        let left = Instant::now();
        let release = self.requests.release(granted)?;
        is_released(ask(&mut stream, release, &mut self.reply)?)?;
        if !fresh {
            self.stream = Some(stream);
        }
        Ok((asked, got, left))
    }
}

fn ask<'a>(stream: &mut TcpStream, request: &[u8], reply: &'a mut [u8; REPLY]) -> Result<&'a [u8]> {
    stream.write_all(request)?;
    let mut len = 0;
    loop {
        match stream.read(&mut reply[len..])? {
            0 => return Err("the server closed the connection".into()),
            count => len += count,
        }
        if reply[..len].ends_with(b"\n") {
            return Ok(&reply[..len]);
        }
    }
}

fn unexpected(reply: &[u8]) -> Box<dyn std::error::Error + Send + Sync> {
    format!("unexpected reply {:?}", String::from_utf8_lossy(reply)).into()
}
