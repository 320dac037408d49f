//! Tokio's sockets with nothing around them: what any client on tokio pays.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::contender::Load;
use crate::flags::Runtime;
use crate::raw::{REPLY, Requests, is_released};
use crate::round::{Log, Round};
use crate::{Result, tasks};

/// Runs a task for each worker, on kept connections.
pub(crate) fn run(load: &Load, kind: Runtime) -> Result<Round> {
    let server = load.only_server()?;
    tasks::run(load, kind, async |index| {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Worker {
            stream,
            requests: Requests::new(load, index),
            reply: [0; REPLY],
            hold: load.hold,
        })
    })
}

struct Worker {
    stream: TcpStream,
    requests: Requests,
    reply: [u8; REPLY],
    hold: Duration,
}

impl tasks::Worker for Worker {
    async fn cycle(&mut self, log: &mut Log) -> Result<()> {
        let asked = Instant::now();
        let granted = ask(&mut self.stream, self.requests.acquire(), &mut self.reply).await?;
        let got = Instant::now();
        if !self.hold.is_zero() {
            sleep(self.hold).await;
        }
        let left = Instant::now();
        let release = self.requests.release(granted)?;
        is_released(ask(&mut self.stream, release, &mut self.reply).await?)?;
        log.note(asked, got, left);
        Ok(())
    }
}

async fn ask<'a>(
    stream: &mut TcpStream,
    request: &[u8],
    reply: &'a mut [u8; REPLY],
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
