//! A place in line is no slot; it is left with `close`: T19, G24.

async fn early(queued: dflock::Semaphore<dflock::Queued>) -> Result<(), dflock::Error> {
    queued.release().await?;
    Ok(())
}

fn main() {}
