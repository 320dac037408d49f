//! The builder of a lock has no limit to set.

fn main() {
    let lock = dflock::Lock::builder().key("nightly").limit(1).build();
}
