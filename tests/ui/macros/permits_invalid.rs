//! Permits are 1 to the limit, and a lock has none.

#[dflock::semaphore(key = "a", limit = 3, permits = 0)]
async fn zero() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a", permits = 4, limit = 3)]
async fn above_the_limit() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a", limit = 3, permits = "2")]
async fn text() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", permits = 1)]
async fn lock() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
