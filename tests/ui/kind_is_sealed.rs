//! The trait `Kind` is sealed.

#[derive(Debug)]
enum MyKind {}

impl dflock::Kind for MyKind {}

fn custom_kind(_: dflock::Semaphore<dflock::Idle, MyKind>) {}

fn main() {}
