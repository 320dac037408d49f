//! The states are sealed.

#[derive(Debug)]
struct MyState;

impl dflock::State for MyState {}

fn mine(_: dflock::Semaphore<MyState>) {}

fn main() {}
