//! Both attributes require a key.

#[dflock::semaphore(limit = 3)]
async fn semaphore() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock]
async fn lock() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
