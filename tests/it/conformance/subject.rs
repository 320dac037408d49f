//! The server that a transcript is played on.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, io};

use dflock::server::Server;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::options::Options;

/// Names a program to test instead of the embedded server.
const PROGRAM: &str = "DFLOCK_CONFORMANCE_SERVER";

/// A server of one transcript's own; dropping it stops it.
pub(super) enum Subject {
    Embedded(Server),
    Program(Program),
}

impl Subject {
    pub(super) async fn start(options: &Options) -> Result<Self, String> {
        match env::var_os(PROGRAM) {
            Some(path) => Program::start(&path, &options.flags)
                .await
                .map(Self::Program),
            None => embedded(options).await.map(Self::Embedded),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        match self {
            Self::Embedded(server) => server.addr(),
            Self::Program(program) => program.addr,
        }
    }
}

async fn embedded(options: &Options) -> Result<Server, String> {
    let builder = Server::builder()
        .default_lease(options.default_lease)
        .read_timeout(options.read_timeout)
        .max_keys(options.max_keys)
        .max_waiters(options.max_waiters)
        .auto_release(options.auto_release);
    let config = match &options.auth_token {
        Some(token) => builder.auth_token(token).build(),
        None => builder.build(),
    };
    config.start().await.map_err(|error| error.to_string())
}

pub(super) struct Program {
    addr: SocketAddr,
    /// Killed when it is dropped.
    child: Child,
}

impl Program {
    const PATIENCE: Duration = Duration::from_secs(10);

    async fn start(path: &OsStr, flags: &[String]) -> Result<Self, String> {
        let (addr, child) =
            spawn(path, flags).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut program = Self { addr, child };
        program
            .listening()
            .await
            .map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(program)
    }

    /// A program of any kind has no event to await: connects until it answers.
    async fn listening(&mut self) -> Result<(), String> {
        let end = Instant::now() + Self::PATIENCE;
        while let Err(error) = TcpStream::connect(self.addr).await {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended before it listened: {status}"));
            }
            if Instant::now() > end {
                return Err(format!(
                    "did not listen on {} in {:?}: {error}",
                    self.addr,
                    Self::PATIENCE
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Starts a program on an address that nobody listens on, and that no other test of this run was given.
fn spawn(path: &OsStr, flags: &[String]) -> io::Result<(SocketAddr, Child)> {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    // locked until the program runs: a child forked while another test looks for a port holds a copy of its listener until `exec`
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let addr = loop {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if given.insert(addr) {
            break addr;
        }
    };
    let mut command = Command::new(path);
    command
        .args([
            "--host",
            &addr.ip().to_string(),
            "--port",
            &addr.port().to_string(),
        ])
        .args(flags);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    Ok((addr, command.spawn()?))
}
