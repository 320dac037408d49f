//! A slot that nobody takes would be given up at once: T46.
#![deny(unused_must_use)]

async fn ignore(pool: dflock::Semaphore) {
    pool.clone().acquire().await;
    pool.clone().enqueue().await;
    pool.acquire();
}

fn main() {}
