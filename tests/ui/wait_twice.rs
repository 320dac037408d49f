//! A place in line becomes one slot: T20.

async fn twice(queued: dflock::Semaphore<dflock::Queued>) -> Result<(), dflock::Error> {
    drop(queued.wait().await?);
    drop(queued.wait().await?);
    Ok(())
}

fn main() {}
