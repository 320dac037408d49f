//! Every mistake is reported, each where it is, and the function is there all the same.

#[dflock::semaphore(kye = "a", limit = 0, renew_ratio = 2.0, lease_ttl = "x", slot = held)]
fn many() -> Result<(), dflock::Error> {
    held.check()?;
    Ok(())
}

fn callers_find_it() -> Result<(), dflock::Error> {
    many()
}

fn main() {}
