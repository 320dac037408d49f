//! A handle that acquired is the slot now: T36, T46, P01.

async fn twice(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    drop(pool.acquire().await?);
    drop(pool.acquire().await?);
    Ok(())
}

fn main() {}
