//! Servers in processes of their own.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use dflock::server::Server;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::HarnessResult;
use super::program::{Pipes, Program, end_with_parent};

/// Time in which a server must start to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of attempts. Another process may take the free port first.
const START_ATTEMPTS: usize = 5;

/// Arguments of a server process, which is started as `PROGRAM serve ..`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    #[arg(long)]
    program: Option<PathBuf>,
    #[arg(long)]
    host: String,
    #[arg(long)]
    port: u16,
    #[arg(long)]
    read_timeout: u64,
    #[arg(long)]
    max_locks: usize,
}

impl ServeArgs {
    /// Serves until the parent process ends.
    ///
    /// # Errors
    ///
    /// Returns an error when the server cannot start.
    pub fn run(self) -> HarnessResult<Infallible> {
        end_with_parent()?;
        if let Some(program) = &self.program {
            let port = self.port.to_string();
            let read_timeout = self.read_timeout.to_string();
            let max_keys = self.max_locks.to_string();
            let flags = [
                "--host",
                &self.host,
                "--port",
                &port,
                "--read-timeout",
                &read_timeout,
                "--max-locks",
                &max_keys,
            ];
            // `exec` keeps the process, and so its end with the parent process.
            return Err(Command::new(program)
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .exec()
                .into());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let read_timeout = Duration::from_secs(self.read_timeout);
            let config = Server::builder()
                .bind(format!("{}:{}", self.host, self.port))
                .read_timeout(read_timeout)
                .max_keys(self.max_locks);
            let _server = config.build().start().await?;
            std::future::pending().await
        })
    }
}

/// Settings from which servers are started.
#[derive(Clone, Debug)]
pub struct ServerCommand {
    /// Server program with the flags of dflockd; `None` is the embedded server.
    pub program: Option<PathBuf>,
    /// In seconds.
    pub read_timeout: u64,
    /// The number of keys.
    pub max_keys: usize,
}

impl ServerCommand {
    /// Starts a server on a free port, and returns when it listens.
    ///
    /// # Errors
    ///
    /// Returns an error when the server does not listen in time.
    pub async fn start(&self) -> HarnessResult<ServerProcess> {
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            match self.try_start().await {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| "no attempt was made".into()))
    }

    async fn try_start(&self) -> HarnessResult<ServerProcess> {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (port, read_timeout) = (addr.port().to_string(), self.read_timeout.to_string());
        let max_keys = self.max_keys.to_string();
        let mut arguments = vec![
            "serve",
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--read-timeout",
            &read_timeout,
            "--max-locks",
            &max_keys,
        ];
        if let Some(program) = &self.program {
            arguments.extend([
                "--program",
                program
                    .to_str()
                    .ok_or("the path of the server is not text")?,
            ]);
        }
        let (mut program, pipes) = Program::start(arguments)?;
        let end = Instant::now() + START_TIMEOUT;
        // A program of any kind reports no event to await, so connect until it accepts.
        while let Err(error) = TcpStream::connect(addr).await {
            if !program.is_running() || Instant::now() > end {
                return Err(format!("the server does not listen on {addr}: {error}").into());
            }
            sleep(Duration::from_millis(2)).await;
        }
        if program.is_running() {
            Ok(ServerProcess {
                program,
                addr,
                _pipes: pipes,
            })
        } else {
            Err("the server ended immediately".into())
        }
    }
}

/// A server process that is killed on drop.
#[derive(Debug)]
pub struct ServerProcess {
    program: Program,
    addr: SocketAddr,
    _pipes: Pipes,
}

impl ServerProcess {
    /// Returns the address on which the server listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Sends SIGSTOP, and returns when no thread of the server runs any more.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.program.stop().await
    }

    /// Sends SIGCONT.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub fn resume(&self) -> io::Result<()> {
        self.program.resume()
    }

    /// Sends SIGKILL, and returns when the process has ended.
    ///
    /// # Errors
    ///
    /// Returns the error of the operating system.
    pub async fn kill(self) -> io::Result<()> {
        self.program.kill().await
    }
}
