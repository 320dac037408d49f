//! A semaphore needs a limit, and both are said.

#[dflock::semaphore(key = "pool")]
async fn one() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore]
async fn both() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
