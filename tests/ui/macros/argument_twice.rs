//! An argument is given once.

#[dflock::semaphore(key = "a", limit = 3, key = "b", limit = 4)]
async fn twice() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
