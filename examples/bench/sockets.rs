//! Bare sockets of tokio, as the lower bound for any client on tokio.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::raw::{MAX_REPLY, Requests, check_released};
use crate::round::{Round, Samples};
use crate::{Result, tasks};

/// Runs a task for each worker, with a connection that is reused for all cycles.
pub(crate) fn run(load: &Load, kind: Runtime) -> Result<Round> {
    let server = load.only_server()?;
    tasks::run(load, kind, async |index| {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Worker {
            stream,
            requests: Requests::new(load, index),
            reply: [0; MAX_REPLY],
            hold: load.hold,
        })
    })
}

/// A connection and the requests of one worker.
struct Worker {
    stream: TcpStream,
    requests: Requests,
    reply: [u8; MAX_REPLY],
    hold: Duration,
}

impl tasks::Worker for Worker {
    async fn cycle(&mut self, samples: &mut Samples) -> Result<()> {
        let start = Instant::now();
        let grant = call(&mut self.stream, self.requests.acquire(), &mut self.reply).await?;
        let granted = Instant::now();
        if !self.hold.is_zero() {
            sleep(self.hold).await;
        }
        let released = Instant::now();
        let release = self.requests.release(grant)?;
        check_released(call(&mut self.stream, release, &mut self.reply).await?)?;
        samples.record(start, granted, released);
        Ok(())
    }
}

/// Sends `request` and reads one line into `reply`.
async fn call<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &'a mut [u8; MAX_REPLY],
) -> Result<&'a [u8]> {
    stream.write_all(request).await?;
    let mut len = 0;
    loop {
        match stream.read(&mut reply[len..]).await? {
            0 => return Err("the server closed the connection".into()),
            count => len += count,
        }
        if reply[..len].ends_with(b"\n") {
            return Ok(&reply[..len]);
        }
    }
}
