//! What was closed cannot be released, let alone with success: T19.

async fn late(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.close();
    held.release().await?;
    Ok(())
}

fn main() {}
