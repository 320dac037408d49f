//! Targets of faults: a client with its own proxy, and the server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use dflock_tests::fleet::Outcome;
use dflock_tests::fleet::clock::now;
use dflock_tests::fleet::program::{Pipes, Program};
use dflock_tests::fleet::proxy::{Cut, Flow, Proxy};
use dflock_tests::fleet::server::{Recipe, ServerProcess};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::deck::{Card, Deck};
use crate::event::{Away, Event};
use crate::fault::{Fault, Kind};
use crate::timeline::Book;

/// Longest delay of bytes that are sent one at a time.
const TRICKLE: Duration = Duration::from_millis(200);

/// Interval between two faults of the server. Each of them ends all holds of all clients.
const RARITY: Duration = Duration::from_secs(3);

/// Delays of a connection.
const DELAYS: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_millis(700),
];

/// A client process with its proxy.
pub(crate) struct Victim {
    index: usize,
    told: Duration,
    seed: u64,
    deck: Deck,
    book: Book,
    proxy: Proxy,
    client: Client,
}

impl Victim {
    /// Starts a client that assumes `read_timeout` for the server.
    pub(crate) async fn start(
        index: usize,
        server: watch::Receiver<SocketAddr>,
        told: Duration,
        seed: u64,
        book: &Book,
    ) -> Outcome<Self> {
        let proxy = Proxy::start(server).await?;
        let client = Client::start(index, &proxy, told, seed, book)?;
        let deck = Deck::new(seed, Kind::ALL.into_iter().filter(|kind| kind.is_clients()));
        Ok(Self {
            index,
            told,
            seed,
            deck,
            book: book.clone(),
            proxy,
            client,
        })
    }

    /// Applies one fault after the other until `end`.
    pub(crate) async fn suffer_until(&mut self, end: Duration) -> Outcome<()> {
        while let Some(Card { wait, kind, length }) = self.deck.draw(end) {
            sleep(wait).await;
            self.suffer(kind, length).await?;
        }
        Ok(())
    }

    async fn suffer(&mut self, kind: Kind, length: Duration) -> Outcome<()> {
        let (from, to) = match kind {
            Kind::ClientStopped => {
                self.client.program.stop().await?;
                let times = (now(), later(length).await);
                self.client.program.go_on()?;
                times
            }
            Kind::ClientKilled => {
                let from = now();
                self.restart().await?;
                (from, now())
            }
            Kind::ClientBusy => {
                let Away { from, to, .. } = self.client.block(length).await?;
                (from, to)
            }
            Kind::Cut | Kind::Reset | Kind::HalfOpen => {
                let from = now();
                self.proxy.cut(match kind {
                    Kind::Cut => Cut::Closed,
                    Kind::Reset => Cut::Reset,
                    _ => Cut::HalfOpen,
                });
                (
                    from,
                    if kind == Kind::HalfOpen {
                        later(length).await
                    } else {
                        from
                    },
                )
            }
            Kind::StalledUp => self.weather(Flow::Stalled, Flow::Clear, length).await,
            Kind::StalledDown => self.weather(Flow::Clear, Flow::Stalled, length).await,
            Kind::Stalled => self.weather(Flow::Stalled, Flow::Stalled, length).await,
            Kind::Trickled => self.slow(Flow::Trickled, TRICKLE, length).await,
            Kind::Delayed => {
                let delay = DELAYS[length.subsec_millis() as usize % DELAYS.len()];
                self.slow(Flow::Delayed(delay), delay, length).await
            }
            Kind::ServerStopped | Kind::ServerKilled => return Err("not a fault of a client".into()),
        };
        self.proxy.heal();
        self.book.open().faults.push(Fault {
            kind,
            client: Some(self.index),
            from,
            to,
        });
        self.look().await
    }

    /// Ends the client with SIGKILL.
    pub(crate) async fn end(self) -> io::Result<()> {
        self.client.program.kill().await
    }

    async fn weather(&self, up: Flow, down: Flow, length: Duration) -> (Duration, Duration) {
        self.proxy.set(up, down);
        (now(), later(length).await)
    }

    /// Shapes the traffic in both directions, and waits for `trace` until the last delayed bytes
    /// have arrived.
    async fn slow(&self, flow: Flow, trace: Duration, length: Duration) -> (Duration, Duration) {
        let (from, _) = self.weather(flow, flow, length).await;
        self.proxy.heal();
        (from, later(trace).await)
    }

    /// Records an error if the client has ended on its own, and restarts it.
    async fn look(&mut self) -> Outcome<()> {
        if !self.client.program.is_running() {
            self.book
                .open()
                .complaints
                .push(format!("client {} ended unexpectedly", self.index));
            self.restart().await?;
        }
        Ok(())
    }

    async fn restart(&mut self) -> Outcome<()> {
        self.seed = self.seed.wrapping_add(1_000_000);
        let next = Client::start(self.index, &self.proxy, self.told, self.seed, &self.book)?;
        let last = std::mem::replace(&mut self.client, next);
        last.program.kill().await?;
        // Read the remaining reports of the killed client.
        last.hearing.await?;
        Ok(())
    }
}

/// A client process.
struct Client {
    program: Program,
    orders: ChildStdin,
    busy: mpsc::UnboundedReceiver<Away>,
    hearing: JoinHandle<()>,
}

impl Client {
    fn start(index: usize, proxy: &Proxy, told: Duration, seed: u64, book: &Book) -> Outcome<Self> {
        let (addr, told, seed) = (
            proxy.addr().to_string(),
            told.as_millis().to_string(),
            seed.to_string(),
        );
        let arguments = [
            "client",
            "--server",
            &addr,
            "--read-timeout",
            &told,
            "--seed",
            &seed,
        ];
        let (program, Pipes { stdin, stdout }) = Program::start(arguments)?;
        let (tell, busy) = mpsc::unbounded_channel();
        let hearing = tokio::spawn(hear(index, stdout, book.clone(), tell));
        Ok(Self {
            program,
            orders: stdin,
            busy,
            hearing,
        })
    }

    /// Blocks the executor of the client. Returns the time in which it was blocked.
    async fn block(&mut self, length: Duration) -> Outcome<Away> {
        self.orders
            .write_all(format!("{}\n", length.as_millis()).as_bytes())
            .await?;
        self.busy
            .recv()
            .await
            .ok_or_else(|| "the client ended while its executor was to be blocked".into())
    }
}

/// Records the reports of a client until it ends.
async fn hear(client: usize, stdout: ChildStdout, book: Book, busy: mpsc::UnboundedSender<Away>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.parse() {
            Ok(event) => {
                if let Event::Away(
                    away @ Away {
                        on_purpose: true, ..
                    },
                ) = event
                {
                    // After a kill of the client the receiver is dropped.
                    let _ = busy.send(away);
                }
                book.open().note(client, event);
            }
            Err(complaint) => book
                .open()
                .complaints
                .push(format!("client {client}: {complaint}")),
        }
    }
}

/// The server process.
pub(crate) struct Host {
    recipe: Recipe,
    process: Option<ServerProcess>,
    addr: watch::Sender<SocketAddr>,
    deck: Deck,
    book: Book,
}

impl Host {
    pub(crate) async fn start(recipe: Recipe, seed: u64, book: &Book) -> Outcome<Self> {
        let process = recipe.start().await?;
        let addr = watch::Sender::new(process.addr());
        let deck = Deck::new(
            seed,
            Kind::ALL.into_iter().filter(|kind| !kind.is_clients()),
        );
        Ok(Self {
            recipe,
            process: Some(process),
            addr,
            deck,
            book: book.clone(),
        })
    }

    /// Returns the current address of the server, which changes with each restart.
    pub(crate) fn addr(&self) -> watch::Receiver<SocketAddr> {
        self.addr.subscribe()
    }

    /// Applies one fault after the other until `end`, with a pause between them.
    pub(crate) async fn suffer_until(&mut self, end: Duration) -> Outcome<()> {
        while let Some(Card { wait, kind, length }) = self.deck.draw(end) {
            sleep(wait).await;
            self.suffer(kind, length).await?;
            sleep(RARITY.min(end.saturating_sub(now()))).await;
        }
        Ok(())
    }

    async fn suffer(&mut self, kind: Kind, length: Duration) -> Outcome<()> {
        let (from, to) = match (kind, &mut self.process) {
            (Kind::ServerStopped, Some(process)) => {
                process.stop().await?;
                let times = (now(), later(length).await);
                process.go_on()?;
                times
            }
            (Kind::ServerKilled, _) => {
                if let Some(process) = self.process.take() {
                    process.kill().await?;
                }
                let from = now();
                let process = self.recipe.start().await?;
                self.addr.send_replace(process.addr());
                self.process = Some(process);
                (from, now())
            }
            _ => {
                return Err(
                    "not a fault of the server, or the server does not run".into(),
                );
            }
        };
        self.book.open().faults.push(Fault {
            kind,
            client: None,
            from,
            to,
        });
        Ok(())
    }
}

async fn later(length: Duration) -> Duration {
    sleep(length).await;
    now()
}
