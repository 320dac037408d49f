//! A borrow of the slot cannot be used after the release: G21, T15.

async fn use_after_release(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    let slot: &dflock::Held = &held;
    held.release().await?;
    slot.check()?;
    Ok(())
}

fn main() {}
