//! The methods that acquire several permits at once.

use std::time::Duration;

use super::{Held, Idle, Semaphore};
use crate::error::Error;
use crate::telemetry::HoldSpan;

/// Several permits of one key. A lock has one permit only, so it has no such methods.
impl Semaphore<Idle> {
    /// Waits for so many permits, and acquires all of them or none. It waits for at most
    /// `acquire_timeout` (10 s by default).
    ///
    /// The permits are one hold: [`release`](Semaphore::release) and drop release all, they are
    /// renewed together, and when the server refuses one of them, all are lost.
    /// [`Held::permits`] returns their number. With one permit this is
    /// [`acquire`](Semaphore::acquire).
    ///
    /// # Order
    ///
    /// On etcd, one transaction makes all permits, at most 100. They have one place in the queue,
    /// and are granted together.
    ///
    /// The protocol of dflockd grants one permit for each request. The call therefore acquires them
    /// one after the other, and each one is first come, first served:
    ///
    /// 1. It waits for the *gate* of the key. Only one caller of several permits has it, and they
    ///    get it in the order in which they came.
    /// 2. It joins the queue of the key for one permit at a time, and each time at the end of the
    ///    queue. Callers of one permit that joined the queue before that are served first.
    /// 3. Once it has all permits it releases the gate.
    ///
    /// So two callers of several permits cannot wait for each other, and callers of one permit
    /// cannot starve one of several: for each of its permits it waits for those that are in the
    /// queue at that time. The permits that it has so far are not free for others during its wait.
    /// A caller that waits without this method for a second permit while it holds one is outside
    /// of this order.
    ///
    /// All permits of a hold on dflockd share one connection. The gate has a second connection
    /// during the call, and none after it. While the call waits with some permits, it renews all
    /// leases on the connection of the gate. If a permit or the gate is lost meanwhile, the call
    /// releases the others and starts again, until its wait is over.
    ///
    /// # The gate
    ///
    /// On dflockd, the gate is a semaphore with one slot on the server of the key. Its key is
    /// `dflock.gate:` and the key. It counts as a key of the server, is listed in its stats, and
    /// must not be used otherwise. The key may have at most 244 bytes.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Semaphore::acquire). Nothing is held after an error. Before a byte
    /// is sent: [`ConfigError::Permits`](crate::ConfigError::Permits) for 0 permits or more than
    /// the limit, [`ConfigError::PermitsKey`](crate::ConfigError::PermitsKey) for a longer key on
    /// dflockd, and [`ConfigError::TooManyPermits`](crate::ConfigError::TooManyPermits) for more
    /// than 100 on etcd.
    ///
    /// With [`LimitMismatch::Adopt`](crate::LimitMismatch::Adopt), a limit of the server that is
    /// less than `permits` is not used. The call is repeated as with
    /// [`WaitOut`](crate::LimitMismatch::WaitOut).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future releases the permits that it has, and leaves the queue. On dflockd it
    /// sends the releases on the connection of the gate, so the permits and the gate are free at
    /// once.
    ///
    /// If the process is killed while it waits, the gate is free at once. The other permits are
    /// free at once if the server reads a connection on which a request waits. Version 1.10 does
    /// not: there they are free when that request is answered, or after their leases (33 s by
    /// default).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let memory = server.client().semaphore("gigabytes", 16)?;
    ///
    /// let held = memory.clone().acquire_many(4).await?;
    /// assert_eq!(held.permits(), 4);
    /// assert_eq!(held.tokens().count(), 4);
    /// held.release().await?; // all four
    /// # Ok(()) }
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    pub async fn acquire_many(self, permits: u32) -> Result<Semaphore<Held>, Error> {
        let wait = self.slot.acquire_timeout();
        self.acquire_many_within(permits, wait).await
    }

    /// Like [`acquire_many`](Self::acquire_many), for at most `wait`, as in
    /// [`acquire_within`](Semaphore::acquire_within).
    ///
    /// # Errors
    ///
    /// The errors of [`acquire_many`](Self::acquire_many), and [`Error::Config`] for a wait of more
    /// than 9,223,372,036 s.
    ///
    /// # Cancel safety
    ///
    /// See [`acquire_many`](Self::acquire_many).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let memory = server.client().semaphore("gigabytes", 4)?;
    /// let first = memory.clone().acquire().await?;
    /// let all = memory.clone().acquire_many_within(4, Duration::from_millis(20)).await;
    /// assert!(all.unwrap_err().is_timeout());
    /// let others = memory.acquire_many_within(3, Duration::from_secs(1)).await?;
    /// # Ok(()) }
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    pub async fn acquire_many_within(
        self,
        permits: u32,
        wait: Duration,
    ) -> Result<Semaphore<Held>, Error> {
        let permits = self.slot.validate_permits(permits)?;
        self.acquire_with(permits, wait, HoldSpan::FollowsFrom)
            .await
    }

    /// Acquires so many permits only if all are free, and the queue is empty.
    ///
    /// It waits only for the replies of the server, as [`try_acquire`](Semaphore::try_acquire), and
    /// uses neither the gate nor a second connection. On dflockd each permit is a request, so
    /// others may take permits between two of them. Two calls at the same time can therefore both
    /// fail, although there are enough permits for one of them.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] if fewer permits are free; otherwise the errors of
    /// [`acquire_many`](Self::acquire_many).
    ///
    /// # Cancel safety
    ///
    /// See [`acquire_many`](Self::acquire_many).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// # let memory = server.client().semaphore("gigabytes", 4)?;
    /// let three = memory.clone().try_acquire_many(3).await?;
    /// assert!(memory.clone().try_acquire_many(2).await.unwrap_err().is_timeout());
    /// let last = memory.try_acquire().await?; // nothing of the failed call is left
    /// # Ok(()) }
    /// ```
    #[must_use = "the permits are given up when it is dropped"]
    pub async fn try_acquire_many(self, permits: u32) -> Result<Semaphore<Held>, Error> {
        self.acquire_many_within(permits, Duration::ZERO).await
    }
}
