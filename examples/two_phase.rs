//! Deployment that sends a message when it has to wait, and another one when it acquires the slot.
//!
//! `cargo run --example two_phase`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use dflock::{Enqueued, Error, Held, Semaphore};
use dflock_examples::Outcome;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let (client, _server) = dflock_examples::connect(1).await?;
    let deploy = client.semaphore("deploy", 1)?;

    // Another deployment holds the slot.
    let other = deploy.clone().acquire().await?;
    let other = tokio::spawn(async move {
        sleep(Duration::from_millis(200)).await;
        other.release().await
    });

    let held = acquire_with_notice(deploy).await?;
    held.run(sleep(Duration::from_millis(50))).await?;
    held.release().await?;
    notify("deployed").await;
    other.await??;
    Ok(())
}

/// Acquires the slot. Sends messages if it has to wait.
async fn acquire_with_notice(deploy: Semaphore) -> Result<Semaphore<Held>, Error> {
    match deploy.enqueue().await? {
        Enqueued::Acquired(held) => Ok(held),
        Enqueued::Queued(queued) => {
            let began = Instant::now();
            // `queued` keeps its place meanwhile, and also a slot that is granted.
            notify("waiting for another deployment").await;
            let held = queued.wait_within(Duration::from_mins(10)).await?;
            notify(&format!(
                "acquired after {} ms",
                began.elapsed().as_millis()
            ))
            .await;
            Ok(held)
        }
    }
}

/// Simulates a slow call to a chat service.
async fn notify(text: &str) {
    sleep(Duration::from_millis(20)).await;
    println!("chat: {text}");
}
