//! The function must return a `Result`.

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
