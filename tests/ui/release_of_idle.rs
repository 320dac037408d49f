//! An idle handle cannot be released: T19.

async fn release_idle(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    pool.release().await?;
    Ok(())
}

fn main() {}
