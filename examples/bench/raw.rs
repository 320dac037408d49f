//! Floor: blocking sockets that send and read only the bytes of a cycle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::Result;
use crate::contender::Load;
use crate::round::{CycleBudget, Round, Samples, run_on_threads};

/// Runs a thread for each worker. With `reconnect`, each cycle opens a new connection.
pub(crate) fn run(load: &Load, reconnect: bool) -> Result<Round> {
    let server = load.only_server()?;
    let budget = CycleBudget::new(load.cycles);
    let new_worker = |index| {
        let mut worker = Worker {
            server,
            stream: None,
            requests: Requests::new(load, index),
            reply: [0; MAX_REPLY],
        };
        for _ in 0..load.warm_up() {
            worker.cycle(load, reconnect)?;
        }
        Ok(worker)
    };
    run_on_threads(load.workers, new_worker, |mut worker| {
        let mut samples = Samples::default();
        while budget.take() {
            let (start, granted, released) = worker.cycle(load, reconnect)?;
            samples.record(start, granted, released);
        }
        Ok(samples)
    })
}

/// Maximum length of a reply to an acquire or a release, in bytes.
pub(crate) const MAX_REPLY: usize = 128;

/// Encoded acquire and release of one worker.
pub(crate) struct Requests {
    acquire: Vec<u8>,
    release: Vec<u8>,
    /// Position of the token in `release`.
    token_offset: usize,
}

impl Requests {
    pub(crate) fn new(load: &Load, index: u32) -> Self {
        let key = load.key(index);
        let release = format!("sr\n{key}\n").into_bytes();
        Self {
            acquire: format!("sl\n{key}\n10 {}\n", load.limit).into_bytes(),
            token_offset: release.len(),
            release,
        }
    }

    pub(crate) fn acquire(&self) -> &[u8] {
        &self.acquire
    }

    /// Returns the release of the slot that was granted with the reply `granted`.
    pub(crate) fn release(&mut self, granted: &[u8]) -> Result<&[u8]> {
        let token = granted
            .strip_prefix(b"ok ")
            .and_then(|rest| rest.split(|&b| b == b' ').next());
        let token = token.ok_or_else(|| unexpected_reply(granted))?;
        self.release.truncate(self.token_offset);
        self.release.extend_from_slice(token);
        self.release.push(b'\n');
        Ok(&self.release)
    }
}

/// Returns an error unless `reply` confirms a release.
pub(crate) fn check_released(reply: &[u8]) -> Result<()> {
    if reply == b"ok\n" {
        Ok(())
    } else {
        Err(unexpected_reply(reply))
    }
}

/// Opens a new connection.
pub(crate) fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection and the requests of one worker.
struct Worker {
    server: SocketAddr,
    stream: Option<TcpStream>,
    requests: Requests,
    reply: [u8; MAX_REPLY],
}

impl Worker {
    /// Runs one cycle. Returns the times before the acquire, after it, and before the release.
    fn cycle(&mut self, load: &Load, reconnect: bool) -> Result<(Instant, Instant, Instant)> {
        let start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.server)?,
        };
        let grant = call(&mut stream, self.requests.acquire(), &mut self.reply)?;
        let granted = Instant::now();
        if !load.hold.is_zero() {
            std::thread::sleep(load.hold);
        }
        let released = Instant::now();
        let release = self.requests.release(grant)?;
        check_released(call(&mut stream, release, &mut self.reply)?)?;
        if !reconnect {
            self.stream = Some(stream);
        }
        Ok((start, granted, released))
    }
}

/// Sends `request` and reads one line into `reply`.
fn call<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &'a mut [u8; MAX_REPLY],
) -> Result<&'a [u8]> {
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

fn unexpected_reply(reply: &[u8]) -> Box<dyn std::error::Error + Send + Sync> {
    format!("unexpected reply {:?}", String::from_utf8_lossy(reply)).into()
}
