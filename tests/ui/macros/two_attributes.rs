//! Two attributes of dflock on one function would take their slots in the order of the lines.

use dflock::semaphore;

#[dflock::semaphore(key = "tenant", limit = 3)]
#[dflock::lock(key = "cluster")]
async fn stacked() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "cluster")]
#[doc = "Another attribute may be between them."]
#[semaphore(key = "tenant", limit = 3)]
async fn stacked_in_reverse() -> Result<(), dflock::Error> {
    Ok(())
}

async fn calls_them() -> Result<(), dflock::Error> {
    stacked().await?;
    stacked_in_reverse().await
}

fn main() {}
