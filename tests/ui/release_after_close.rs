//! A closed slot cannot be released: T19.

async fn release_closed(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.close();
    held.release().await?;
    Ok(())
}

fn main() {}
