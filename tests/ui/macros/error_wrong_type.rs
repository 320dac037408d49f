//! The error of the function must be `From<dflock::Error>`.

#[dflock::lock(key = "a")]
async fn text() -> Result<u32, String> {
    Ok(3)
}

#[dflock::semaphore(key = "a", limit = 3, on_lost = finish)]
async fn io() -> std::io::Result<Vec<u8>> {
    Ok(vec![])
}

#[dflock::lock(key = "a")]
async fn generic<E: std::error::Error>(error: E) -> Result<(), E> {
    Err(error)
}

struct Shop;

impl Shop {
    #[dflock::lock(key = "a")]
    async fn unit(&self) -> Result<&Self, ()> {
        Ok(self)
    }
}

fn main() {}
