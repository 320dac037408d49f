//! Nothing but the states is a state.

struct MyState;

fn mine(_: dflock::Semaphore<MyState>) {}

fn main() {}
