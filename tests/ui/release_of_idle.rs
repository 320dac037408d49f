//! There is nothing to release before a slot is held: T19.

async fn early(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    pool.release().await?;
    Ok(())
}

fn main() {}
