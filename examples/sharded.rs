//! Keys that are sharded over three servers.
//!
//! `cargo run --example sharded`, or with other servers:
//! `DFLOCK_SERVERS=lock-1:6388,lock-2:6388 cargo run --example sharded`

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
    let mut slots = Vec::new();
    for tenant in TENANTS {
        slots.push(
            client
                .semaphore(format!("sharded:{tenant}"), 2)?
                .acquire()
                .await?,
        );
    }
    print_keys(&client).await?;
    for held in slots {
        held.release().await?;
    }

    // Only the keys of the stopped server are unavailable. They do not move to another server,
    // because then two clients could hold the same slot.
    if let Some(server) = servers.pop() {
        println!("without {}:", server.addr());
        server.shutdown().await;
        for tenant in TENANTS {
            match client
                .semaphore(format!("sharded:{tenant}"), 2)?
                .try_acquire()
                .await
            {
                Ok(held) => {
                    println!("  sharded:{tenant} is available");
                    held.release().await?;
                }
                Err(error) if error.is_retryable() => {
                    println!("  sharded:{tenant} is unavailable: {error}");
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Prints the held keys of each server.
async fn print_keys(client: &Client) -> Result<(), Error> {
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
