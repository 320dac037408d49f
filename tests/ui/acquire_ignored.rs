//! An unused slot is dropped at once, so the compiler warns: T46.
//!
//! It cannot warn after `?`, because the type `Semaphore` is also that of a released handle.
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
