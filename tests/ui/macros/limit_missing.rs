//! A semaphore requires a limit. A missing key and a missing limit are both reported.

#[dflock::semaphore(key = "pool")]
async fn one() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore]
async fn both() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
