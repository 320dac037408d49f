//! One place in line has one owner: P01.

fn twice(queued: dflock::Semaphore<dflock::Queued>) -> [dflock::Semaphore<dflock::Queued>; 2] {
    [queued.clone(), queued]
}

fn main() {}
