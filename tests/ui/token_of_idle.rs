//! An idle handle has no token: G21.

fn token(pool: &dflock::Semaphore) -> String {
    pool.token().as_str().to_owned()
}

fn main() {}
