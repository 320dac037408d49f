//! A deployment that tells others when it has to wait in line, and again when it is its turn.
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

    // somebody else is deploying
    let other = deploy.clone().acquire().await?;
    let other = tokio::spawn(async move {
        sleep(Duration::from_millis(200)).await;
        other.release().await
    });

    let held = my_turn(deploy).await?;
    held.run(sleep(Duration::from_millis(50))).await?;
    held.release().await?;
    notify("deployed").await;
    other.await??;
    Ok(())
}

/// Gets the slot; whoever looks on is told if that takes long.
async fn my_turn(deploy: Semaphore) -> Result<Semaphore<Held>, Error> {
    match deploy.enqueue().await? {
        Enqueued::Acquired(held) => Ok(held),
        Enqueued::Queued(queued) => {
            let began = Instant::now();
            // the place in line is kept meanwhile, and a slot that comes is, too
            notify("waiting for another deployment").await;
            let held = queued.wait_within(Duration::from_mins(10)).await?;
            notify(&format!(
                "it is our turn, after {} ms",
                began.elapsed().as_millis()
            ))
            .await;
            Ok(held)
        }
    }
}

/// Stands for a call to a chat or a dashboard, which takes its time.
async fn notify(text: &str) {
    sleep(Duration::from_millis(20)).await;
    println!("to the chat: {text}");
}
