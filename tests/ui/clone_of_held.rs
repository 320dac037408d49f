//! A held handle cannot be cloned, because a slot has one owner: P01.

fn clone_held(held: dflock::Semaphore<dflock::Held>) -> [dflock::Semaphore<dflock::Held>; 2] {
    [held.clone(), held]
}

fn main() {}
