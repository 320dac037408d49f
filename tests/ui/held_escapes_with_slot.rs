//! The slot cannot be used after the body of `with_slot`.

async fn escape(pool: dflock::Semaphore) {
    let mut kept: Option<&dflock::Held> = None;
    let _ = pool.with_slot(async |held| kept = Some(held)).await;
}

fn main() {}
