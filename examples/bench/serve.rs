//! The server that is measured against, in a process of its own.

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

/// What this program is when it is started as a server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// The embedded server
    Embedded,
    /// Says yes to everything: no server can be faster
    Echo,
}

/// More keys than any load has.
const MAX_KEYS: usize = 1 << 20;

/// A server in a process that ends with this.
pub(crate) struct ServerProcess {
    child: Child,
    addr: SocketAddr,
}

impl ServerProcess {
    /// Starts `program`, or the embedded server if there is none, on the cores `cpus`; with a certificate it speaks TLS.
    pub(crate) fn start(
        program: Option<&Path>,
        cpus: &[usize],
        tls: Option<&Certificate>,
    ) -> Result<Self> {
        match program {
            Some(program) => Self::foreign(program, cpus, tls),
            None => Self::own(Role::Embedded, cpus, tls),
        }
    }

    /// Starts this very program as a server.
    pub(crate) fn own(role: Role, cpus: &[usize], tls: Option<&Certificate>) -> Result<Self> {
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

    fn foreign(program: &Path, cpus: &[usize], tls: Option<&Certificate>) -> Result<Self> {
        // it does not say which port it was given: this one was free a moment ago
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
        let began = Instant::now();
        while TcpStream::connect(addr).is_err() {
            if began.elapsed() > Duration::from_secs(5) {
                return Err(format!("{} does not listen on {addr}", program.display()).into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the server that `role` says, and ends with whoever started it.
pub(crate) fn play(role: Role, certificate: Option<(&Path, &Path)>) -> Result<()> {
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
            announce(server.addr())?;
            Ok(tokio::task::spawn_blocking(wait_for_the_end).await?)
        }),
        Role::Echo => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            announce(listener.local_addr()?)?;
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(|| echo(stream));
                }
            });
            wait_for_the_end();
            Ok(())
        }
    }
}

fn spawn(mut command: Command, cpus: &[usize]) -> Result<Child> {
    // a process inherits the cores of the thread that starts it
    let ours = machine::cpus()?;
    machine::pin(cpus)?;
    let child = command.spawn();
    machine::pin(&ours)?;
    Ok(child
        .map_err(|error| format!("cannot start {}: {error}", command.get_program().display()))?)
}

fn announce(addr: SocketAddr) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{addr}")?)
}

/// Returns when the process that has the other end of stdin is gone.
fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Answers every three lines as if it were a server.
fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let (mut bytes, mut lines, mut verb) = ([0; 4096], 0, 0);
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let mut replies = Vec::new();
        for &byte in &bytes[..count] {
            match byte {
                b'\n' if lines == 2 => {
                    let reply = if verb == b'l' {
                        &b"ok 0123456789abcdef0123456789abcdef 33\n"[..]
                    } else {
                        b"ok\n"
                    };
                    replies.extend_from_slice(reply);
                    lines = 0;
                }
                b'\n' => lines += 1,
                // the last letter of the command
                _ if lines == 0 => verb = byte,
                _ => {}
            }
        }
        if stream.write_all(&replies).is_err() {
            return;
        }
    }
}
