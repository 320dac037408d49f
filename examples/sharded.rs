//! Three servers, and keys that are spread over them: each key lives on one.
//!
//! `cargo run --example sharded`, or with servers of your own: `DFLOCK_SERVERS=lock-1:6388,lock-2:6388 cargo run --example sharded`

use std::process::ExitCode;

use dflock::{Client, Error};
use dflock_examples::Outcome;

const TENANTS: [&str; 9] = [
    "acme", "bolt", "crux", "dune", "echo", "flux", "gate", "haze", "iris",
];

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let (client, mut servers) = dflock_examples::connect(3).await?;
    let mut all = Vec::new();
    for tenant in TENANTS {
        all.push(
            client
                .semaphore(format!("sharded:{tenant}"), 2)?
                .acquire()
                .await?,
        );
    }
    show(&client).await?;
    for held in all {
        held.release().await?;
    }

    // when a server is gone, so are its keys, and no others: nothing moves to another server, or two might hold one slot
    if let Some(gone) = servers.pop() {
        println!("without {}:", gone.addr());
        gone.shutdown().await;
        for tenant in TENANTS {
            match client
                .semaphore(format!("sharded:{tenant}"), 2)?
                .try_acquire()
                .await
            {
                Ok(held) => {
                    println!("  sharded:{tenant} is served");
                    held.release().await?;
                }
                Err(error) if error.is_retryable() => {
                    println!("  sharded:{tenant} has to wait: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Prints who holds what, server by server.
async fn show(client: &Client) -> Result<(), Error> {
    for (n, stats) in client.stats().await?.iter().enumerate() {
        let keys: Vec<_> = stats
            .semaphores
            .iter()
            .map(|semaphore| semaphore.key.as_str())
            .collect();
        println!("server {}: {}", n + 1, keys.join(", "));
    }
    Ok(())
}
