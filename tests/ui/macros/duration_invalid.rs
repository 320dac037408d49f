//! Invalid durations.

#[dflock::lock(key = "a", acquire_timeout = "2", lease_ttl = "soon")]
async fn unreadable() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", acquire_timeout = "0s", lease_ttl = "0s")]
async fn zero() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", acquire_timeout = 2, lease_ttl = 30.0)]
async fn number() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", acquire_timeout = "106751991168d", lease_ttl = "1500ms")]
async fn out_of_range() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
