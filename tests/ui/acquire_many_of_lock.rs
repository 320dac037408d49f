//! A lock has one slot, so it has no `acquire_many`.

async fn several(lock: dflock::Lock) -> Result<(), dflock::Error> {
    let held = lock.acquire_many(2).await?;
    held.release().await?;
    Ok(())
}

fn main() {}
