//! Waiting consumes the queued handle: T20.

async fn wait_twice(queued: dflock::Semaphore<dflock::Queued>) -> Result<(), dflock::Error> {
    drop(queued.wait().await?);
    drop(queued.wait().await?);
    Ok(())
}

fn main() {}
