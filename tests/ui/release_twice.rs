//! A slot cannot be released twice: T19.

async fn release_twice(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.release().await?;
    held.release().await?;
    Ok(())
}

fn main() {}
