//! Servers that run as separate processes.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;

use dflock::{Client, ClientBuilder};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};

use super::python::{Python, target_dir};

/// Server process that is killed on drop.
pub(super) struct Program {
    pub(super) addr: SocketAddr,
    child: Child,
}

impl Program {
    /// Starts `dflock serve` with additional flags.
    pub(super) async fn dflock_serve(flags: &[&str]) -> Self {
        let mut command = Command::new(&*DFLOCK);
        command
            .args(["serve", "--port", "0"])
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = lines(child.stdout.take().unwrap());
        let addr = lines
            .next_line()
            .await
            .unwrap()
            .expect("the server does not print its address")
            .parse()
            .unwrap();
        Self { addr, child }
    }

    /// Starts the Python `dflockd` with additional flags.
    pub(super) async fn python_dflockd(python: &Python, flags: &[&str]) -> Self {
        loop {
            // This server cannot choose a port. Another program may take the free port first.
            let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .unwrap()
                .local_addr()
                .unwrap();
            let mut command = python.module("dflockd.server");
            command
                .args([
                    "--host",
                    &addr.ip().to_string(),
                    "--port",
                    &addr.port().to_string(),
                ])
                .args(flags);
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut log = lines(child.stderr.take().unwrap());
            let mut reply = Vec::new();
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("listening on") {
                    // The server logs every request, and blocks when its output is not read.
                    tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
                    return Self { addr, child };
                }
                reply.push(line);
            }
            assert!(
                reply
                    .iter()
                    .any(|line| line.contains("address already in use")),
                "{}",
                reply.join("\n")
            );
        }
    }

    /// Returns a client of this server.
    pub(super) fn client(&self) -> Client {
        self.client_builder().build().unwrap()
    }

    pub(super) fn client_builder(&self) -> ClientBuilder {
        Client::builder().servers([self.addr.to_string()])
    }

    pub(super) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Returns the lines of an output.
pub(super) fn lines<R: AsyncRead + Unpin>(output: R) -> Lines<BufReader<R>> {
    BufReader::new(output).lines()
}

/// Path of the program `dflock`, built with the profile of this test. `cargo test` has built it
/// already, and `cargo test -p dflock-tests` has not.
static DFLOCK: LazyLock<PathBuf> = LazyLock::new(|| {
    let temp_dir = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned();
    let profile = temp_dir
        .file_name()
        .filter(|name| *name != "debug")
        .unwrap_or(OsStr::new("dev"));
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--bin",
            "dflock",
            "--profile",
        ])
        .arg(profile);
    let status = cargo
        .arg("--target-dir")
        .arg(target_dir())
        .status()
        .unwrap();
    assert!(status.success(), "`dflock` cannot be built");
    temp_dir.join("dflock")
});
