//! Unknown arguments, with suggestions for misspelt ones.

#[dflock::semaphore(key = "a", limits = 3, timeout = "2s", colour = (1, 2))]
async fn misspelt() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", onlost = finish, crat = x)]
async fn misspelt_lock() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(KEY = "a", Limit = 3, _client = x)]
async fn in_another_case() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
