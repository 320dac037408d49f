//! A handle cannot have another type as its state.

struct MyState;

fn custom_state(_: dflock::Semaphore<MyState>) {}

fn main() {}
