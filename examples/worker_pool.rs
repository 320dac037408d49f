//! Workers that share slots, with a progress bar for each worker, the slots and the queue.
//!
//! `cargo run --example worker_pool`. If the output is not a terminal, it prints plain lines.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use dflock::{Client, Error, Semaphore};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::sleep;

const KEY: &str = "worker-pool";
const SLOTS: u32 = 3;
const WORKERS: usize = 8;
const JOBS: u64 = 3;
const STEPS: u64 = 20;

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> dflock_examples::Outcome {
    let (client, _server) = dflock_examples::connect(1).await?;
    let pool = Semaphore::builder()
        .key(KEY)
        .limit(SLOTS)
        .acquire_timeout(Duration::from_hours(1))
        .client(client.clone())
        .build()?;
    let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
    let header = screen.add(ProgressBar::new(0).with_style(ProgressStyle::with_template("{msg}")?));
    let style = ProgressStyle::with_template("{prefix} {bar:30.green/dim} {msg}")?;
    let mut workers = JoinSet::new();
    for n in 1..=WORKERS {
        let bar = screen
            .add(ProgressBar::new(JOBS * STEPS))
            .with_style(style.clone())
            .with_prefix(format!("worker {n}"));
        workers.spawn(work(pool.clone(), bar));
    }
    loop {
        show(&header, &slots_and_queue(&client).await?);
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(worker) => worker??,
                None => break header.abandon(),
            },
            () = sleep(Duration::from_millis(50)) => {}
        }
    }
    Ok(())
}

async fn work(pool: Semaphore, bar: ProgressBar) -> Result<(), Error> {
    for job in 1..=JOBS {
        show(&bar, &format!("job {job}: waiting"));
        let held = pool.clone().acquire().await?;
        show(&bar, &format!("job {job}: holds a slot"));
        for _ in 0..STEPS {
            held.run(sleep(Duration::from_millis(15))).await?;
            bar.inc(1);
        }
        held.release().await?;
    }
    show(&bar, "done");
    bar.abandon();
    Ok(())
}

/// Draws the slots and the queue in the server's statistics.
async fn slots_and_queue(client: &Client) -> Result<String, Error> {
    let stats = client
        .stats()
        .await?
        .into_iter()
        .flat_map(|stats| stats.semaphores)
        .find(|semaphore| semaphore.key == KEY);
    let (held, waiting) = stats.map_or((0, 0), |semaphore| (semaphore.holders, semaphore.waiters));
    let draw = |mark: &str, count: u64| mark.repeat(usize::try_from(count).unwrap_or(WORKERS));
    Ok(format!(
        "slots {}{}  queue {}",
        draw("●", held),
        draw("○", u64::from(SLOTS).saturating_sub(held)),
        draw("▸", waiting)
    ))
}

/// Shows a changed text: in its bar, or as a line if the output is not a terminal.
fn show(bar: &ProgressBar, text: &str) {
    if !std::io::stdout().is_terminal() && bar.message() != text {
        println!("{}", format!("{} {text}", bar.prefix()).trim());
    }
    bar.set_message(text.to_owned());
}
