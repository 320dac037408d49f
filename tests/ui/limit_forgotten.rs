//! A semaphore has a limit.

fn main() {
    let pool = dflock::Semaphore::builder().key("worker-pool").build();
}
