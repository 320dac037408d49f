//! A semaphore cannot be built without a key.

fn main() {
    let pool = dflock::Semaphore::builder().limit(5).build();
}
