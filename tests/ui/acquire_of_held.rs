//! A held handle cannot acquire: T36, P01, P28.

async fn acquire_held(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.acquire().await?;
    Ok(())
}

fn main() {}
