//! There is no token without a slot, empty or other: G21.

fn token(pool: &dflock::Semaphore) -> String {
    pool.token().as_str().to_owned()
}

fn main() {}
