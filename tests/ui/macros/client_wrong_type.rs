//! The argument `client` must be a `Client` or a pointer to one.

#[dflock::lock(key = "a", client = "lock-1:6388")]
async fn text() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
