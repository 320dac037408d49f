//! An idle handle cannot wait: T20.

async fn wait_idle(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    pool.wait().await?;
    Ok(())
}

fn main() {}
