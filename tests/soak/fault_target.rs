//! Targets of faults: a client with its own proxy, and the server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::now;
use dflock_tests::harness::program::{Pipes, Program};
use dflock_tests::harness::proxy::{Disconnect, Proxy, Shaping};
use dflock_tests::harness::server::{ServerCommand, ServerProcess};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::event::{Event, Stall};
use crate::fault::{Fault, FaultKind};
use crate::schedule::{FaultSchedule, ScheduledFault};
use crate::timeline::SharedTimeline;

/// Longest delay of bytes that are sent one at a time.
const TRICKLE_DRAIN: Duration = Duration::from_millis(200);

/// Interval between two faults of the server. Each of them ends all holds of all clients.
const SERVER_FAULT_INTERVAL: Duration = Duration::from_secs(3);

/// Delays of a connection.
const DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_millis(700),
];

/// A client process with its proxy.
pub(crate) struct ClientTarget {
    index: usize,
    read_timeout: Duration,
    seed: u64,
    schedule: FaultSchedule,
    timeline: SharedTimeline,
    proxy: Proxy,
    client: Client,
}

impl ClientTarget {
    /// Starts a client that assumes `read_timeout` for the server.
    pub(crate) async fn start(
        index: usize,
        server: watch::Receiver<SocketAddr>,
        read_timeout: Duration,
        seed: u64,
        timeline: &SharedTimeline,
    ) -> HarnessResult<Self> {
        let proxy = Proxy::start(server).await?;
        let addr = proxy.addr().to_string();
        let client = Client::start(index, &addr, read_timeout, seed, timeline)?;
        let schedule = FaultSchedule::new(
            seed,
            FaultKind::DFLOCKD
                .into_iter()
                .filter(|kind| kind.is_client_fault()),
        );
        Ok(Self {
            index,
            read_timeout,
            seed,
            schedule,
            timeline: timeline.clone(),
            proxy,
            client,
        })
    }

    /// Applies one fault after the other until `end`.
    pub(crate) async fn run_faults(&mut self, end: Duration) -> HarnessResult<()> {
        while let Some(ScheduledFault { wait, kind, length }) = self.schedule.next(end) {
            sleep(wait).await;
            self.apply(kind, length).await?;
        }
        Ok(())
    }

    async fn apply(&mut self, kind: FaultKind, length: Duration) -> HarnessResult<()> {
        let (from, to) = match kind {
            FaultKind::ClientStopped => {
                self.client.program.stop().await?;
                let times = (now(), sleep_then_now(length).await);
                self.client.program.resume()?;
                times
            }
            FaultKind::ClientKilled => {
                let from = now();
                self.restart().await?;
                (from, now())
            }
            FaultKind::ClientBusy => {
                let Stall { from, to, .. } = self.client.block(length).await?;
                (from, to)
            }
            FaultKind::Closed | FaultKind::Reset | FaultKind::HalfOpen => {
                let from = now();
                self.proxy.disconnect(match kind {
                    FaultKind::Closed => Disconnect::Closed,
                    FaultKind::Reset => Disconnect::Reset,
                    _ => Disconnect::HalfOpen,
                });
                (
                    from,
                    if kind == FaultKind::HalfOpen {
                        sleep_then_now(length).await
                    } else {
                        from
                    },
                )
            }
            FaultKind::StalledUp => {
                self.shape(Shaping::Stalled, Shaping::Immediate, length)
                    .await
            }
            FaultKind::StalledDown => {
                self.shape(Shaping::Immediate, Shaping::Stalled, length)
                    .await
            }
            FaultKind::Stalled => self.shape(Shaping::Stalled, Shaping::Stalled, length).await,
            FaultKind::Trickled => {
                self.shape_and_drain(Shaping::Trickled, TRICKLE_DRAIN, length)
                    .await
            }
            FaultKind::Delayed => {
                let delay = DELAYS[length.subsec_millis() as usize % DELAYS.len()];
                self.shape_and_drain(Shaping::Delayed(delay), delay, length)
                    .await
            }
            _ => {
                return Err("not a fault of a client of dflockd".into());
            }
        };
        self.proxy.heal();
        self.timeline.lock().faults.push(Fault {
            kind,
            client: Some(self.index),
            from,
            to,
        });
        self.check_running().await
    }

    /// Ends the client with SIGKILL.
    pub(crate) async fn end(self) -> io::Result<()> {
        self.client.program.kill().await
    }

    async fn shape(&self, up: Shaping, down: Shaping, length: Duration) -> (Duration, Duration) {
        self.proxy.shape(up, down);
        (now(), sleep_then_now(length).await)
    }

    /// Shapes the traffic in both directions, and then waits until the last delayed bytes
    /// have arrived.
    async fn shape_and_drain(
        &self,
        shaping: Shaping,
        drain: Duration,
        length: Duration,
    ) -> (Duration, Duration) {
        let (from, _) = self.shape(shaping, shaping, length).await;
        self.proxy.heal();
        (from, sleep_then_now(drain).await)
    }

    /// Records an error if the client has ended on its own, and restarts it.
    async fn check_running(&mut self) -> HarnessResult<()> {
        if !self.client.program.is_running() {
            self.timeline
                .lock()
                .errors
                .push(format!("client {} ended unexpectedly", self.index));
            self.restart().await?;
        }
        Ok(())
    }

    async fn restart(&mut self) -> HarnessResult<()> {
        self.seed = self.seed.wrapping_add(1_000_000);
        let next = Client::start(
            self.index,
            &self.proxy.addr().to_string(),
            self.read_timeout,
            self.seed,
            &self.timeline,
        )?;
        let last = std::mem::replace(&mut self.client, next);
        last.kill().await
    }
}

/// A client process.
pub(crate) struct Client {
    pub(crate) program: Program,
    commands: ChildStdin,
    busy: mpsc::UnboundedReceiver<Stall>,
    reader: JoinHandle<()>,
}

impl Client {
    /// Starts a client of `servers`, which are separated by commas.
    pub(crate) fn start(
        index: usize,
        servers: &str,
        read_timeout: Duration,
        seed: u64,
        timeline: &SharedTimeline,
    ) -> HarnessResult<Self> {
        let (read_timeout, seed) = (read_timeout.as_millis().to_string(), seed.to_string());
        let arguments = [
            "client",
            "--servers",
            servers,
            "--read-timeout",
            &read_timeout,
            "--seed",
            &seed,
        ];
        let (program, Pipes { stdin, stdout }) = Program::start(arguments)?;
        let (tell, busy) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_reports(index, stdout, timeline.clone(), tell));
        Ok(Self {
            program,
            commands: stdin,
            busy,
            reader,
        })
    }

    /// Blocks the executor of the client. Returns the time in which it was blocked.
    pub(crate) async fn block(&mut self, length: Duration) -> HarnessResult<Stall> {
        self.commands
            .write_all(format!("{}\n", length.as_millis()).as_bytes())
            .await?;
        self.busy
            .recv()
            .await
            .ok_or_else(|| "the client ended while its executor was to be blocked".into())
    }

    /// Ends the client with SIGKILL, and reads its remaining reports.
    pub(crate) async fn kill(self) -> HarnessResult<()> {
        self.program.kill().await?;
        Ok(self.reader.await?)
    }
}

/// Records the reports of a client until it ends.
async fn read_reports(
    client: usize,
    stdout: ChildStdout,
    timeline: SharedTimeline,
    busy: mpsc::UnboundedSender<Stall>,
) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.parse() {
            Ok(event) => {
                if let Event::Stall(
                    stall @ Stall {
                        intentional: true, ..
                    },
                ) = event
                {
                    // After a kill of the client the receiver is dropped.
                    let _ = busy.send(stall);
                }
                timeline.lock().add(client, event);
            }
            Err(error) => timeline
                .lock()
                .errors
                .push(format!("client {client}: {error}")),
        }
    }
}

/// The server process.
pub(crate) struct ServerTarget {
    command: ServerCommand,
    process: Option<ServerProcess>,
    addr: watch::Sender<SocketAddr>,
    schedule: FaultSchedule,
    timeline: SharedTimeline,
}

impl ServerTarget {
    pub(crate) async fn start(
        command: ServerCommand,
        seed: u64,
        timeline: &SharedTimeline,
    ) -> HarnessResult<Self> {
        let process = command.start().await?;
        let addr = watch::Sender::new(process.addr());
        let schedule = FaultSchedule::new(
            seed,
            FaultKind::DFLOCKD
                .into_iter()
                .filter(|kind| !kind.is_client_fault()),
        );
        Ok(Self {
            command,
            process: Some(process),
            addr,
            schedule,
            timeline: timeline.clone(),
        })
    }

    /// Returns the current address of the server, which changes with each restart.
    pub(crate) fn addr(&self) -> watch::Receiver<SocketAddr> {
        self.addr.subscribe()
    }

    /// Applies one fault after the other until `end`, with a pause between them.
    pub(crate) async fn run_faults(&mut self, end: Duration) -> HarnessResult<()> {
        while let Some(ScheduledFault { wait, kind, length }) = self.schedule.next(end) {
            sleep(wait).await;
            self.apply(kind, length).await?;
            sleep(SERVER_FAULT_INTERVAL.min(end.saturating_sub(now()))).await;
        }
        Ok(())
    }

    async fn apply(&mut self, kind: FaultKind, length: Duration) -> HarnessResult<()> {
        let (from, to) = match (kind, &mut self.process) {
            (FaultKind::ServerStopped, Some(process)) => {
                process.stop().await?;
                let times = (now(), sleep_then_now(length).await);
                process.resume()?;
                times
            }
            (FaultKind::ServerKilled, _) => {
                if let Some(process) = self.process.take() {
                    process.kill().await?;
                }
                let from = now();
                let process = self.command.start().await?;
                self.addr.send_replace(process.addr());
                self.process = Some(process);
                (from, now())
            }
            _ => {
                return Err("not a fault of the server, or the server does not run".into());
            }
        };
        self.timeline.lock().faults.push(Fault {
            kind,
            client: None,
            from,
            to,
        });
        Ok(())
    }
}

async fn sleep_then_now(length: Duration) -> Duration {
    sleep(length).await;
    now()
}
