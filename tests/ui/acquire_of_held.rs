//! A slot that is held cannot be acquired: T36, P01, P28.

async fn again(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.acquire().await?;
    Ok(())
}

fn main() {}
