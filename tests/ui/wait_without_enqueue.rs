//! Who waits must stand in line: T20.

async fn wait(pool: dflock::Semaphore) -> Result<(), dflock::Error> {
    pool.wait().await?;
    Ok(())
}

fn main() {}
