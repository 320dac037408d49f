//! Server under test: the embedded server or an external program.

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

/// Environment variable with the path of a program to test instead of the embedded server.
const PROGRAM: &str = "DFLOCK_CONFORMANCE_SERVER";

/// A server for one transcript. Dropping it stops it.
pub(super) enum ServerUnderTest {
    Embedded(Server),
    Program(Program),
}

impl ServerUnderTest {
    pub(super) async fn start(options: &Options) -> Result<Self, String> {
        match env::var_os(PROGRAM) {
            Some(path) => Program::start(&path, &options.flags)
                .await
                .map(Self::Program),
            None => start_embedded(options).await.map(Self::Embedded),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        match self {
            Self::Embedded(server) => server.addr(),
            Self::Program(program) => program.addr,
        }
    }
}

async fn start_embedded(options: &Options) -> Result<Server, String> {
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
    /// Process that is killed on drop.
    child: Child,
}

impl Program {
    const START_TIMEOUT: Duration = Duration::from_secs(10);

    async fn start(path: &OsStr, flags: &[String]) -> Result<Self, String> {
        let (addr, child) =
            spawn(path, flags).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut program = Self { addr, child };
        program
            .wait_until_listening()
            .await
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(program)
    }

    /// Connects until the program answers, because an external program signals no readiness.
    async fn wait_until_listening(&mut self) -> Result<(), String> {
        let end = Instant::now() + Self::START_TIMEOUT;
        while let Err(error) = TcpStream::connect(self.addr).await {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended before it listened: {status}"));
            }
            if Instant::now() > end {
                return Err(format!(
                    "did not listen on {} in {:?}: {error}",
                    self.addr,
                    Self::START_TIMEOUT
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

/// Starts a program on a free address that no other test of this run has received.
fn spawn(path: &OsStr, flags: &[String]) -> io::Result<(SocketAddr, Child)> {
    static ASSIGNED: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    // The lock is held until the program has started. A child forked while another test probes for
    // a port holds a copy of its listener until `exec`.
    let mut assigned = ASSIGNED.lock().unwrap_or_else(PoisonError::into_inner);
    let addr = loop {
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        if assigned.insert(addr) {
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
