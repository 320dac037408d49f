//! Duplicate arguments.

#[dflock::semaphore(key = "a", limit = 3, key = "b", limit = 4)]
async fn duplicate() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
