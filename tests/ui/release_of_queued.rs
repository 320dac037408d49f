//! A queued handle cannot be released. `close` leaves the queue: T19, G24.

async fn release_queued(queued: dflock::Semaphore<dflock::Queued>) -> Result<(), dflock::Error> {
    queued.release().await?;
    Ok(())
}

fn main() {}
