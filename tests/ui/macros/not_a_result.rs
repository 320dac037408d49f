//! There may be no slot, and the caller must get to know.

#[dflock::lock(key = "a")]
async fn nothing() {}

#[dflock::lock(key = "a")]
async fn number() -> u32 {
    3
}

#[dflock::lock(key = "a")]
async fn option() -> Option<String> {
    None
}

fn main() {}
