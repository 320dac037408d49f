//! The trait `State` is sealed.

#[derive(Debug)]
struct MyState;

impl dflock::State for MyState {}

fn custom_state(_: dflock::Semaphore<MyState>) {}

fn main() {}
