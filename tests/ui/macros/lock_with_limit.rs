//! A lock has no limit.

#[dflock::lock(key = "nightly", limit = 3)]
async fn nightly() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
