//! The result of a release may be ignored.
#![deny(unused_must_use)]

use dflock::{Error, Held, Lock, Queued, Semaphore};

#[allow(dead_code)]
async fn ignore(
    held: Semaphore<Held>,
    queued: Semaphore<Queued>,
    lock: Lock<Held>,
) -> Result<(), Error> {
    held.release().await?;
    queued.close();
    lock.release().await?;
    Ok(())
}

fn main() {}
