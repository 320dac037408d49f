//! An annotated function that is not called is dead code, and so are its callees.
#![deny(dead_code)]

struct Shop {
    region: String,
}

impl Shop {
    #[dflock::semaphore(key = "dead:{id}", limit = 3)]
    async fn dead(&self, id: u32) -> Result<usize, dflock::Error> {
        Ok(only_called_by_it(&self.region, id))
    }
}

fn only_called_by_it(region: &str, id: u32) -> usize {
    region.len() + id as usize
}

#[dflock::lock(key = "dead", slot = held)]
async fn free() -> Result<(), dflock::Error> {
    held.check()?;
    Ok(())
}

fn main() {}
