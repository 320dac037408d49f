//! The server of a benchmark, in a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use dflock::server::{Server, ServerTls};

use crate::certificate::Certificate;
use crate::{Result, machine};

/// Kind of server that this program runs as.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// The embedded server
    Embedded,
    /// Confirms every request without any checks, as the upper bound for a server
    Echo,
}

/// Key limit of the server, above the number of keys of any load.
const MAX_KEYS: usize = 1 << 20;

/// A server in a child process, which is killed on drop.
pub(crate) struct ServerProcess {
    child: Child,
    addr: SocketAddr,
}

impl ServerProcess {
    /// Starts `program`, or the embedded server if it is `None`, on the cores `cpus`.
    ///
    /// The server uses TLS if `tls` is a certificate.
    pub(crate) fn start(
        program: Option<&Path>,
        cpus: &[usize],
        tls: Option<&Certificate>,
    ) -> Result<Self> {
        match program {
            Some(program) => Self::start_program(program, cpus, tls),
            None => Self::start_self(Role::Embedded, cpus, tls),
        }
    }

    /// Starts this program as a server.
    pub(crate) fn start_self(
        role: Role,
        cpus: &[usize],
        tls: Option<&Certificate>,
    ) -> Result<Self> {
        let role = role.to_possible_value().ok_or("a role without a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--serve", role.get_name()])
            .args(tls.iter().flat_map(|tls| tls.options()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(command, cpus)?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        Ok(Self {
            child,
            addr: line
                .trim()
                .parse()
                .map_err(|_| "the server did not start")?,
        })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Starts a dflockd, and waits until it accepts connections.
    fn start_program(program: &Path, cpus: &[usize], tls: Option<&Certificate>) -> Result<Self> {
        // dflockd does not report its port, so choose one that is free now.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command.args([
            "--port",
            &addr.port().to_string(),
            "--max-locks",
            &MAX_KEYS.to_string(),
        ]);
        command.args(tls.iter().flat_map(|tls| tls.options()));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self {
            child: spawn(command, cpus)?,
            addr,
        };
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if start.elapsed() > Duration::from_secs(5) {
                return Err(format!("{} does not listen on {addr}", program.display()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Killing fails if the process has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server `role` until the parent process exits.
pub(crate) fn run(role: Role, certificate: Option<(&Path, &Path)>) -> Result<()> {
    match role {
        Role::Embedded => tokio::runtime::Runtime::new()?.block_on(async {
            let tls = certificate
                .map(|(chain, key)| ServerTls::pem_files(chain, key))
                .transpose()?;
            let server = Server::builder()
                .max_keys(MAX_KEYS)
                .tls(tls)
                .build()
                .start()
                .await?;
            print_addr(server.addr())?;
            Ok(tokio::task::spawn_blocking(wait_for_stdin_eof).await?)
        }),
        Role::Echo => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            print_addr(listener.local_addr()?)?;
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(|| echo(stream));
                }
            });
            wait_for_stdin_eof();
            Ok(())
        }
    }
}

/// Starts `command` on the cores `cpus`.
fn spawn(mut command: Command, cpus: &[usize]) -> Result<Child> {
    // A process inherits the cores of the thread that starts it.
    let client_cpus = machine::allowed_cpus()?;
    machine::pin_to_cpus(cpus)?;
    let child = command.spawn();
    machine::pin_to_cpus(&client_cpus)?;
    Ok(child
        .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?)
}

/// Reports the address to the parent process.
fn print_addr(addr: SocketAddr) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{addr}")?)
}

/// Waits until stdin is closed, which happens when the parent process exits.
fn wait_for_stdin_eof() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Answers every request, which is three lines, with the reply to a successful request.
fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut bytes, mut lines, mut command) = ([0; 4096], 0, 0);
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let mut replies = Vec::new();
        for &byte in &bytes[..count] {
            match byte {
                b'\n' if lines == 2 => {
                    let reply = if command == b'l' {
                        &b"ok 0123456789abcdef0123456789abcdef 33\n"[..]
                    } else {
                        b"ok\n"
                    };
                    replies.extend_from_slice(reply);
                    lines = 0;
                }
                b'\n' => lines += 1,
                // The last letter of the command tells an acquire from a release.
                _ if lines == 0 => command = byte,
                _ => {}
            }
        }
        if stream.write_all(&replies).is_err() {
            return;
        }
    }
}
