//! All legal state transitions, from the builder to the last state.

use std::time::Duration;

use dflock::{
    Client, ConfigError, Counting, Crc32, Enqueued, Error, Exclusive, Held, Idle, Kind, Lock, Lost,
    Queued, Semaphore, SemaphoreBuilder,
};

fn client() -> Result<Client, ConfigError> {
    Client::builder()
        .servers(["lock-1:6388", "lock-2:6388"])
        .sharding(Crc32)
        .auth("token")
        .connect_timeout(Duration::from_secs(5))
        .socket_timeout(Duration::from_secs(5))
        .heartbeat(Duration::from_secs(8))
        .server_read_timeout(Duration::from_secs(23))
        .clock_drift(0.01)
        .fencing(false)
        .build()
}

fn pool(client: &Client) -> Result<Semaphore<Idle>, ConfigError> {
    Semaphore::builder()
        .key("worker-pool")
        .limit(5)
        .acquire_timeout(Duration::from_secs(10))
        .lease_ttl(Duration::from_secs(20))
        .renew_ratio(0.5)
        .on_lost(|lost: &Lost| eprintln!("{lost}"))
        .client(client.clone())
        .build()
}

/// The kind of a builder is inferred from the limit, wherever it is set.
fn inferred_kinds(client: &Client) -> Result<(Semaphore, Lock), ConfigError> {
    let pool = Semaphore::builder()
        .client(client.clone())
        .limit(5)
        .key(String::from("worker-pool"))
        .build()?;
    drop(pool.clone().acquire());
    let lock = Lock::builder()
        .client(client.clone())
        .key("nightly")
        .build()?;
    drop(lock.clone().acquire());
    let one_kind: SemaphoreBuilder<Counting, String> = Semaphore::builder().key("worker-pool");
    drop(one_kind.limit(5).build()?);
    Ok((pool, lock))
}

/// A lock has the methods of a semaphore in every state.
async fn lock(lock: Lock) -> Result<(), Error> {
    let same: Semaphore<Idle, Exclusive> = lock;
    let held: Lock<Held> = one_of_a_kind(same).await?;
    let _ = (held.key(), held.limit(), held.token(), held.fence());
    held.check()?;
    held.renew().await?;
    held.run(async {}).await?;
    let idle: Lock = held.release().await?;
    if let Enqueued::Queued(queued) = idle.enqueue().await? {
        let queued: Lock<Queued> = queued;
        queued.wait().await?.close();
    }
    Ok(())
}

/// A function for semaphores and locks.
async fn one_of_a_kind<K: Kind>(
    semaphore: Semaphore<Idle, K>,
) -> Result<Semaphore<Held, K>, Error> {
    semaphore.with_slot(async |_| ()).await?;
    let enqueued: Enqueued<K> = semaphore.clone().enqueue().await?;
    enqueued.wait().await?.release().await?;
    semaphore.acquire().await
}

fn is_send<T: Send + 'static>(_: T) {}

fn futures_of_any_kind_are_send<K: Kind>(semaphore: Semaphore<Idle, K>) {
    is_send(one_of_a_kind(semaphore));
}

async fn one_phase(pool: &Semaphore) -> Result<(), Error> {
    let held: Semaphore<Held> = pool.clone().acquire().await?;
    held.check()?;
    held.renew().await?;
    let _ = (
        held.key(),
        held.token().as_str(),
        held.fence(),
        held.lease(),
        held.remaining(),
        held.limit(),
        held.is_lost(),
    );
    held.run(async { 1 + 1 }).await?;
    let slot: &Held = &held;
    tokio::select! {
        lost = slot.lost() => return Err(lost.into()),
        () = async {} => {}
    }
    let idle: Semaphore<Idle> = held.release().await?;
    let held = idle.acquire_within(Duration::from_millis(1500)).await?;
    let held = held.close().try_acquire().await?;
    drop(held);
    Ok(())
}

async fn two_phases(pool: &Semaphore) -> Result<(), Error> {
    let held = match pool.clone().enqueue().await? {
        Enqueued::Acquired(held) => held,
        Enqueued::Queued(queued) if queued.is_granted() => queued.wait().await?,
        Enqueued::Queued(queued) => queued.wait_within(Duration::from_secs(1)).await?,
    };
    held.release().await?;
    if let Enqueued::Queued(queued) = pool.clone().enqueue().await? {
        let queued: Semaphore<Queued> = queued;
        queued.close().enqueue().await?.wait().await?;
    }
    Ok(())
}

async fn scoped(pool: &Semaphore) -> Result<usize, Error> {
    let name = String::from("borrowed");
    pool.with_slot(async |held| held.key().len() + name.len())
        .await
}

#[derive(Debug)]
struct AppError(Error);

impl From<Error> for AppError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

async fn application(pool: Semaphore) -> Result<usize, AppError> {
    one_phase(&pool).await?;
    two_phases(&pool).await?;
    Ok(scoped(&pool).await?)
}

fn main() -> Result<(), ConfigError> {
    let client = client()?;
    let short = client.semaphore("worker-pool", 5)?;
    // Nothing is sent before a future is polled.
    drop(application(short));
    drop(application(pool(&client)?));
    let (of_limit, nightly) = inferred_kinds(&client)?;
    futures_of_any_kind_are_send(of_limit);
    drop(lock(nightly));
    drop(client.scope(async { Client::current() }));
    Ok(())
}
