//! The slot ends with the body, so it cannot be carried out of it.

async fn escape(pool: dflock::Semaphore) {
    let mut kept: Option<&dflock::Held> = None;
    let _ = pool.with_slot(async |held| kept = Some(held)).await;
}

fn main() {}
