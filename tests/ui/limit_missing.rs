//! A semaphore cannot be built without a limit.

fn main() {
    let pool = dflock::Semaphore::builder().key("worker-pool").build();
}
