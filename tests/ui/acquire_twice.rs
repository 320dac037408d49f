//! Acquiring consumes the handle: T36, T46, P01.

async fn acquire_twice(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    drop(pool.acquire().await?);
    drop(pool.acquire().await?);
    Ok(())
}

fn main() {}
