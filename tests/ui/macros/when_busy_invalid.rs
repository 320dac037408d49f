//! `when_busy = skip` returns `Ok(Default::default())` without a wait.

use dflock::Error;

struct Report;

#[dflock::lock(key = "a", when_busy = skip)]
async fn no_default() -> Result<Report, Error> {
    Ok(Report)
}

#[dflock::lock(key = "a", when_busy = skip)]
async fn no_result() -> u32 {
    3
}

#[dflock::lock(key = "a", when_busy = wait)]
async fn unknown() -> Result<(), Error> {
    Ok(())
}

#[dflock::lock(key = "a", acquire_timeout = "2s", when_busy = skip)]
async fn timeout_without_wait() -> Result<(), Error> {
    Ok(())
}

fn main() {}
