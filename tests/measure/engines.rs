//! Measurements of the engines beside each other: one server, and a cluster of three members of
//! etcd.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use dflock::{Client, Enqueued, Held, Semaphore};
use dflock_tests::etcd_cluster::EtcdCluster;
use dflock_tests::harness::HarnessResult;
use dflock_tests::harness::clock::{elapsed, now};
use dflock_tests::harness::program::{Pipes, Program, end_with_parent};
use dflock_tests::harness::server::{ServerCommand, ServerProcess};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::handoff::summary;
use crate::renewals::RenewalCounter;

/// Number of tasks that wait for one key.
const WORKERS: usize = 64;

/// Time in which requests for held slots are counted: three of the default intervals of dflockd.
const COUNT_TIME: Duration = Duration::from_secs(24);

/// Number of concurrent acquires.
const MAX_ACQUIRES: usize = 64;

/// Number of leaders that are killed.
const KILLS: usize = 5;

/// Time for the cluster and its clients to settle after a restart.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Time in which a client continues after the death of a leader, or never will.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of a process that holds many slots.
#[derive(Debug, clap::Args)]
pub(crate) struct ManySlots {
    /// Separated by commas.
    #[arg(long)]
    servers: String,
    #[arg(long)]
    slots: u32,
}

/// An engine that runs.
enum Engine {
    Dflockd(Box<ServerProcess>),
    Etcd(EtcdCluster),
}

impl Engine {
    /// Returns the addresses, separated by commas.
    fn servers(&self) -> String {
        match self {
            Self::Dflockd(server) => server.addr().to_string(),
            Self::Etcd(cluster) => {
                let members = cluster.addresses().into_iter();
                let members: Vec<String> = members.map(|one| format!("etcd://{one}")).collect();
                members.join(",")
            }
        }
    }

    fn client(&self) -> HarnessResult<Client> {
        Ok(Client::builder()
            .servers(self.servers().split(','))
            .build()?)
    }

    /// Returns the resident memory of all servers together, in KiB.
    fn resident_kib(&self) -> HarnessResult<f64> {
        let pids = match self {
            Self::Dflockd(server) => vec![server.id()],
            Self::Etcd(cluster) => (0..3).map(|member| cluster.pid(member)).collect(),
        };
        pids.into_iter()
            .map(|pid| resident_kib(&pid.to_string()))
            .sum()
    }

    /// Returns the number of messages that the members of etcd have received; `None` on dflockd.
    fn received(&self) -> Option<f64> {
        let Self::Etcd(cluster) = self else {
            return None;
        };
        let metrics = (0..3).map(|member| cluster.metrics(member));
        let received = metrics.map(|metrics| {
            let lines = metrics
                .lines()
                .filter(|line| line.starts_with("grpc_server_msg_received_total"));
            lines
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum::<f64>()
        });
        Some(received.sum())
    }
}

/// Measures all engines and prints a table.
pub(crate) async fn print(
    commands: &[ServerCommand],
    times: usize,
    slots: u32,
) -> HarnessResult<()> {
    raise_descriptor_limit()?;
    let mut engines = Vec::new();
    for command in commands {
        let name = match command.program {
            None => "the embedded server",
            Some(_) => "the server of `--server-bin`",
        };
        engines.push((name, Engine::Dflockd(Box::new(command.start().await?))));
    }
    match block_in_place(EtcdCluster::start) {
        Some(cluster) => engines.push(("three members of etcd", Engine::Etcd(cluster))),
        None => eprintln!("there is no etcd: set `ETCD` to its binary, or install it"),
    }
    let mut columns = Vec::new();
    for (name, engine) in &mut engines {
        columns.push((name.to_owned(), measure(engine, times, slots).await?));
    }
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    let rows = [
        "acquire and release",
        "hand-off after `release`",
        "hand-off after drop",
        "64 workers on one key",
        "held slots: requests per second",
        "held slots: memory of the client for each",
        "held slots: memory of all servers for each",
        "the next acquire and release after `kill -9` of the server or the leader",
    ];
    for (index, row) in rows.into_iter().enumerate() {
        let cells: Vec<&str> = columns
            .iter()
            .map(|(_, cells)| cells[index].as_str())
            .collect();
        println!("| {row} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// Returns the cells of an engine.
async fn measure(engine: &mut Engine, times: usize, slots: u32) -> HarnessResult<[String; 8]> {
    let held = many_slots(engine, slots).await?;
    Ok([
        cycles(engine, times).await?,
        hand_off(engine, times, true).await?,
        hand_off(engine, times, false).await?,
        contended(engine, times).await?,
        held[0].clone(),
        held[1].clone(),
        held[2].clone(),
        continued(engine).await?,
    ])
}

async fn cycles(engine: &Engine, times: usize) -> HarnessResult<String> {
    let pool = engine.client()?.semaphore("cycles", 1)?;
    let mut took = Vec::with_capacity(times);
    pool.clone().acquire().await?.release().await?;
    for _ in 0..times {
        let began = now();
        pool.clone().acquire().await?.release().await?;
        took.push(elapsed(began));
    }
    Ok(summary(took))
}

/// Measures the time from the end of a hold until a waiter of another client holds.
async fn hand_off(engine: &Engine, times: usize, is_release: bool) -> HarnessResult<String> {
    let pools = [
        engine.client()?.semaphore("hand-off", 1)?,
        engine.client()?.semaphore("hand-off", 1)?,
    ];
    let mut held = pools[0].clone().acquire().await?;
    let mut took = Vec::with_capacity(times);
    for turn in 1..=times {
        let Enqueued::Queued(queued) = pools[turn % 2].clone().enqueue().await? else {
            return Err("the slot is already held".into());
        };
        let next = tokio::spawn(async { queued.wait().await.map(|held| (held, now())) });
        // The waiter must be polled before the hold ends.
        sleep(Duration::from_millis(1)).await;
        let began = now();
        if is_release {
            held.release().await?;
        } else {
            drop(held);
        }
        let (next, granted): (Semaphore<Held>, Duration) = next.await??;
        took.push(granted.saturating_sub(began));
        held = next;
    }
    held.release().await?;
    Ok(summary(took))
}

async fn contended(engine: &Engine, times: usize) -> HarnessResult<String> {
    let pool = engine.client()?.semaphore("contended", 1)?;
    pool.clone().acquire().await?.release().await?;
    let each = times.div_ceil(WORKERS);
    let began = now();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let pool = pool.clone();
        workers.spawn(async move {
            for _ in 0..each {
                let held = pool.clone().acquire_within(CONTINUE_TIMEOUT).await?;
                held.release().await?;
            }
            Ok::<_, dflock::Error>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let cycles = f64::from(u32::try_from(each * WORKERS)?);
    Ok(format!(
        "{:.0} cycles/s",
        cycles / elapsed(began).as_secs_f64()
    ))
}

/// Measures the memory and the requests of a process that holds `slots` slots.
async fn many_slots(engine: &Engine, slots: u32) -> HarnessResult<[String; 3]> {
    let before = engine.resident_kib()?;
    let (servers, number) = (engine.servers(), slots.to_string());
    let arguments = ["many-slots", "--servers", &servers, "--slots", &number];
    let (program, Pipes { stdin, stdout }) = Program::start(arguments)?;
    let mut lines = BufReader::new(stdout).lines();
    let client = next_number(&mut lines).await?;
    let servers = engine.resident_kib()? - before;
    let received = engine.received();
    let began = now();
    let renewals = next_number(&mut lines).await?;
    let lost = next_number(&mut lines).await?;
    let requests = match (received, engine.received()) {
        (Some(before), Some(after)) => after - before,
        _ => renewals,
    };
    let rate = requests / elapsed(began).as_secs_f64();
    drop(stdin);
    program.kill().await?;
    let slots = f64::from(slots);
    Ok([
        format!("{rate:.1} for {slots} slots, {lost} lost"),
        format!("{:.1} KiB", client / slots),
        format!("{:.1} KiB", servers / slots),
    ])
}

async fn next_number(lines: &mut Lines<BufReader<ChildStdout>>) -> HarnessResult<f64> {
    let line = lines.next_line().await?;
    Ok(line
        .ok_or("the process with many slots has ended")?
        .parse()?)
}

impl ManySlots {
    /// Prints the memory of the slots in KiB, then the number of renewals, and then that of lost
    /// slots.
    pub(crate) fn run(self) -> HarnessResult<Infallible> {
        end_with_parent()?;
        let renewals = RenewalCounter::install()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let client = Client::builder().servers(self.servers.split(',')).build()?;
            // Allocates what is needed once.
            client
                .semaphore("first", 1)?
                .acquire()
                .await?
                .release()
                .await?;
            let before = resident_kib("self")?;
            let (mut tasks, mut slots) = (JoinSet::new(), Vec::new());
            for index in 0..self.slots {
                if tasks.len() >= MAX_ACQUIRES
                    && let Some(held) = tasks.join_next().await
                {
                    slots.push(held??);
                }
                tasks.spawn(client.semaphore(format!("slot-{index}"), 1)?.acquire());
            }
            while let Some(held) = tasks.join_next().await {
                slots.push(held??);
            }
            println!("{}", resident_kib("self")? - before);
            let renewals_before = renewals.count();
            sleep(COUNT_TIME).await;
            println!("{}", renewals.count() - renewals_before);
            println!(
                "{}",
                slots.iter().filter(|held| held.check().is_err()).count()
            );
            std::future::pending().await
        })
    }
}

/// Measures the time from the kill of the leader until a client has acquired and released a slot.
async fn continued(engine: &mut Engine) -> HarnessResult<String> {
    let client = engine.client()?;
    let Engine::Etcd(cluster) = engine else {
        return Ok("never, until it is started again".to_owned());
    };
    let pool = client.semaphore("continued", 1)?;
    let mut took = Vec::new();
    for _ in 0..KILLS {
        pool.clone().acquire().await?.release().await?;
        let leader = block_in_place(|| cluster.wait_for_leader())?;
        block_in_place(|| cluster.kill(leader));
        let killed = now();
        let cycle = async {
            loop {
                let held = match pool.clone().acquire().await {
                    Ok(held) => held,
                    Err(error) if error.is_retryable() => continue,
                    Err(error) => return Err(error),
                };
                return held.release().await.map(drop);
            }
        };
        timeout(CONTINUE_TIMEOUT, cycle).await??;
        took.push(elapsed(killed));
        block_in_place(|| cluster.restart(leader));
        sleep(SETTLE_TIME).await;
    }
    took.sort_unstable();
    Ok(format!(
        "{:.2} s median, {:.2} s at most ({KILLS} times)",
        took[KILLS / 2].as_secs_f64(),
        took[KILLS - 1].as_secs_f64()
    ))
}

/// Returns the resident memory of a process, in KiB.
fn resident_kib(pid: &str) -> HarnessResult<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS in the status of the process")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Raises the limit of open file descriptors to the maximum, also for the processes that this one
/// starts: on dflockd each slot has a connection.
fn raise_descriptor_limit() -> HarnessResult<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
