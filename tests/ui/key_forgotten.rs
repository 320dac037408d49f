//! A semaphore has a key.

fn main() {
    let pool = dflock::Semaphore::builder().limit(5).build();
}
