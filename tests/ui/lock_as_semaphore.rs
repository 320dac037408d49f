//! A lock and a semaphore are different types in every state.

use dflock::{Enqueued, Error, Held, Lock, Semaphore};

fn work_with_slot(_: &Semaphore<Held>) {}

fn work_with_lock(_: &Lock<Held>) {}

async fn confuse(pool: Semaphore, lock: Lock, enqueued: Enqueued) -> Result<(), Error> {
    let again: Semaphore = lock.clone();
    let of_lock: Lock<Held> = enqueued.wait().await?;
    work_with_slot(&lock.acquire().await?);
    work_with_lock(&pool.acquire().await?);
    Ok(())
}

fn main() {}
