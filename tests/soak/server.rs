//! A server in a process of its own.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Outcome;
use crate::program::{Pipes, Program, end_with_parent};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// Another process may take the free port first.
const TRIES: usize = 5;

/// The mode in which this program is a server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Serve {
    /// Another program with dflockd's flags, to run instead of the embedded server
    #[arg(long)]
    program: Option<PathBuf>,
    #[arg(long)]
    host: String,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    read_timeout: u64,
}

impl Serve {
    pub(crate) fn run(self) -> Outcome<Infallible> {
        end_with_parent()?;
        if let Some(program) = &self.program {
            let port = self.port.to_string();
            let read_timeout = self.read_timeout.to_string();
            let flags = ["--host", &self.host, "--port", &port, "--read-timeout", &read_timeout];
            // the process stays the same, and so does its end with its parent
            return Err(std::process::Command::new(program).args(flags).exec().into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let read_timeout = Duration::from_secs(self.read_timeout);
            let config = dflock::server::Server::builder().bind(format!("{}:{}", self.host, self.port)).read_timeout(read_timeout);
            let _server = config.build().start().await?;
            std::future::pending().await
        })
    }
}

/// What to start servers from.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// `None` is the embedded server.
    pub(crate) program: Option<PathBuf>,
    /// In seconds.
    pub(crate) read_timeout: u64,
}

impl Recipe {
    /// Starts a server on a free port; it listens when this returns.
    pub(crate) async fn start(&self) -> Outcome<ServerProcess> {
        let mut last = None;
        for _ in 0..TRIES {
            match self.try_start().await {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no try was made".into()))
    }

    pub(crate) fn name(&self) -> String {
        self.program.as_ref().map_or_else(|| "the embedded server".to_owned(), |program| program.display().to_string())
    }

    async fn try_start(&self) -> Outcome<ServerProcess> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (port, read_timeout) = (addr.port().to_string(), self.read_timeout.to_string());
        let mut arguments = vec!["serve", "--host", "127.0.0.1", "--port", &port, "--read-timeout", &read_timeout];
        if let Some(program) = &self.program {
            arguments.extend(["--program", program.to_str().ok_or("the path of the server is not text")?]);
        }
        let (mut program, pipes) = Program::start(arguments)?;
        let end = Instant::now() + PATIENCE;
        // a program of any kind has no event to await: connect until it answers
        while let Err(error) = TcpStream::connect(addr).await {
            if !program.is_running() || Instant::now() > end {
                return Err(format!("the server does not listen on {addr}: {error}").into());
            }
            sleep(Duration::from_millis(2)).await;
        }
        if program.is_running() { Ok(ServerProcess { program, addr, _pipes: pipes }) } else { Err("the server ended at once".into()) }
    }
}

/// A server that runs until this is dropped.
pub(crate) struct ServerProcess {
    program: Program,
    addr: SocketAddr,
    _pipes: Pipes,
}

impl ServerProcess {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn stop(&self) -> io::Result<()> {
        self.program.stop()
    }

    pub(crate) fn go_on(&self) -> io::Result<()> {
        self.program.go_on()
    }

    pub(crate) async fn kill(self) -> io::Result<()> {
        self.program.kill().await
    }
}
