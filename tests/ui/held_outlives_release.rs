//! A task that borrowed the slot cannot go on with it after the release: G21, T15.

async fn borrow(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    let slot: &dflock::Held = &held;
    held.release().await?;
    slot.check()?;
    Ok(())
}

fn main() {}
