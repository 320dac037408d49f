//! Limits outside 1 to 1048576.

#[dflock::semaphore(key = "a", limit = 0)]
async fn zero() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a", limit = 1_048_577)]
async fn too_high() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a", limit = -1)]
async fn negative() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a", limit = "3")]
async fn text() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
