//! One slot has one owner: P01.

fn twice(held: dflock::Semaphore<dflock::Held>) -> [dflock::Semaphore<dflock::Held>; 2] {
    [held.clone(), held]
}

fn main() {}
