//! Waiting takes an async fn.

#[dflock::semaphore(key = "pool", limit = 3)]
fn plain() -> Result<(), dflock::Error> {
    Ok(())
}

fn callers_find_it() -> Result<(), dflock::Error> {
    plain()
}

fn main() {}
