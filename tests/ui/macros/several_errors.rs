//! Every error is reported at its place, and the function is still defined.

#[dflock::semaphore(kye = "a", limit = 0, renew_ratio = 2.0, lease_ttl = "x", slot = held)]
fn many() -> Result<(), dflock::Error> {
    held.check()?;
    Ok(())
}

fn calls_the_function() -> Result<(), dflock::Error> {
    many()
}

fn main() {}
