//! A slot is given back once: T19.

async fn twice(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.release().await?;
    held.release().await?;
    Ok(())
}

fn main() {}
