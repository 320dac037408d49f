//! A slot that nobody takes would be given up at once: T46.
//!
//! Behind a `?` the compiler looks at the type alone, which is `Semaphore` also for what a release returns.
#![deny(unused_must_use)]

async fn ignore(pool: dflock::Semaphore) {
    pool.clone().acquire().await;
    pool.clone().enqueue().await;
    pool.acquire();
}

async fn ignore_lock(lock: dflock::Lock) -> Result<(), dflock::Error> {
    lock.clone().try_acquire().await;
    lock.clone().acquire_within(std::time::Duration::ZERO).await;
    lock.enqueue().await?;
    Ok(())
}

fn main() {}
