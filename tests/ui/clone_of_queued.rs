//! A queued handle cannot be cloned: P01.

fn clone_queued(queued: dflock::Semaphore<dflock::Queued>) -> [dflock::Semaphore<dflock::Queued>; 2] {
    [queued.clone(), queued]
}

fn main() {}
