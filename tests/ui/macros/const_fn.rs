//! What runs at compile time cannot wait.

#[dflock::lock(key = "pool")]
pub const fn constant() -> Result<(), dflock::Error> {
    Ok(())
}

const FOUND: Result<(), dflock::Error> = constant();

fn main() {}
