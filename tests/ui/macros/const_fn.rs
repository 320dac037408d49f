//! A `const fn` cannot wait for a slot.

#[dflock::lock(key = "pool")]
pub const fn constant() -> Result<(), dflock::Error> {
    Ok(())
}

const FOUND: Result<(), dflock::Error> = constant();

fn main() {}
