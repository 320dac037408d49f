//! A semaphore cannot be built without a key and a limit.

fn main() {
    let pool = dflock::Semaphore::builder().build();
}
