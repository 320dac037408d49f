//! A lock cannot be built without a key.

fn main() {
    let lock = dflock::Lock::builder().build();
}
