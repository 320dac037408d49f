//! A key and a limit are set once.

fn main() {
    let two_keys = dflock::Semaphore::builder().key("a").key("b");
    let two_limits = dflock::Semaphore::builder().limit(5).limit(6);
}
