//! The attributes accept only functions with a body.

#[dflock::lock(key = "a")]
struct Shop;

#[dflock::lock(kye = "a")]
mod shop {}

trait Store {
    #[dflock::lock(key = "a")]
    async fn without_a_body(&self) -> Result<(), dflock::Error>;
}

fn main() {}
