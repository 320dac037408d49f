//! Leader election with a lock.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::Instrument;

use super::{Held, Idle, Lock};
use crate::error::Error;
use crate::telemetry;
use crate::wire::Token;

/// The longest pause between two campaigns.
const MAX_PAUSE: Duration = Duration::from_secs(1);

impl Lock<Idle> {
    /// Campaigns for the lock, and runs `body` while this program is the leader, until `body`
    /// returns.
    ///
    /// A campaign is an acquire with the lock's `acquire_timeout`. After a timeout or another
    /// [retryable](Error::is_retryable) error the next campaign begins, after a random pause of at
    /// most 100 ms. This bound doubles with each failure up to 1 s.
    ///
    /// `body` is called once for each term. It is dropped when the lock is lost, or when
    /// [`Leader::resign`] is called, and a new campaign begins. The drop is complete before that
    /// campaign, and before the release of the lock, so no two bodies run at the same time as far as
    /// a lease can promise it. A body that blocks its thread cannot be dropped, and must call
    /// [`check`](Held::check).
    ///
    /// When `body` returns, the lock is released, and the future ends with the value. A value is
    /// discarded, and a new campaign begins, if the lock was lost before the release or if the
    /// body has resigned.
    ///
    /// [`Lead::watch`] tells other tasks whether this program leads.
    ///
    /// # Errors
    ///
    /// The errors of [`acquire`](Lock::acquire) that are not retryable.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `body`, and gives up the lock or the place in the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let scheduler = server.client().lock("scheduler")?;
    ///
    /// let lead = scheduler.lead(async |leader| {
    ///     for job in 0..3 {
    ///         println!("leader with fence {:?} starts job {job}", leader.fence());
    ///     }
    ///     "done"
    /// });
    /// let leadership = lead.watch(); // for health checks and metrics
    /// assert_eq!(lead.await?, "done");
    /// assert_eq!(*leadership.borrow(), dflock::Leadership::Ended);
    /// # Ok(()) }
    /// ```
    pub fn lead<F, T>(
        &self,
        mut body: F,
    ) -> Lead<impl Future<Output = Result<T, Error>> + use<F, T>>
    where
        F: AsyncFnMut(&Leader) -> T,
    {
        let lock = self.clone();
        let (sender, leadership) = watch::channel(Leadership::Candidate);
        let reporter = Reporter(sender);
        let future = async move {
            // A local variable is dropped last: after the lock, and when the future ends.
            let reporter = reporter;
            let mut backoff = lock.slot.backoff(MAX_PAUSE);
            loop {
                match lock.clone().acquire_for_body().await {
                    Ok(held) => {
                        let leader = Leader::new(held);
                        let value = run_term(&leader, &mut body, &reporter).await;
                        let released = leader.held.release().await;
                        let is_lost = matches!(released, Err(Error::Lost(_)));
                        if let Err(error) = released
                            && !is_lost
                        {
                            telemetry::warn_release_failure(&error);
                        }
                        if let Some(value) = value
                            && !is_lost
                        {
                            return Ok(value);
                        }
                        backoff.reset();
                    }
                    Err(error) if error.is_retryable() || error.is_lost() => {}
                    Err(error) => return Err(error),
                }
                sleep(backoff.pause()).await;
            }
        };
        Lead { future, leadership }
    }
}

/// Runs `body` until the end of the term. Returns its value, or `None` if the lock was lost or the
/// leader has resigned.
async fn run_term<F, T>(leader: &Leader, body: &mut F, reporter: &Reporter) -> Option<T>
where
    F: AsyncFnMut(&Leader) -> T,
{
    // Dropped after the body, and before the caller gives up the lock.
    let _term = reporter.start_term(leader);
    let work = leader.run(body(leader).instrument(leader.span()));
    let value = tokio::select! {
        biased;
        () = leader.resigned() => return None,
        value = work => value,
    };
    value.ok().filter(|_| !leader.has_resigned())
}

/// The leader of one term: the lock that is held, and the way to give it up.
///
/// It is given to the body of [`Lock::lead`](crate::Semaphore::lead). It dereferences to [`Held`],
/// with [`check`](Held::check), [`fence`](Held::fence) and [`remaining`](Held::remaining).
#[derive(Debug)]
pub struct Leader {
    held: Lock<Held>,
    resigned: watch::Sender<bool>,
}

impl Leader {
    fn new(held: Lock<Held>) -> Self {
        let (resigned, _) = watch::channel(false);
        Self { held, resigned }
    }

    /// Ends the term: the body is dropped at its next `.await`, the lock is released, and a new
    /// campaign begins after a random pause of at most 100 ms.
    ///
    /// If the body returns instead, its value is discarded. To end [`Lead`] without a new campaign,
    /// return from the body without this call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = dflock::server::Server::start().await?;
    /// let mut terms = 0;
    /// let scheduler = server.client().lock("scheduler")?;
    /// let lead = scheduler.lead(async |leader| {
    ///     terms += 1;
    ///     if terms == 1 {
    ///         leader.resign(); // another candidate may lead now
    ///     }
    /// });
    /// lead.await?;
    /// assert_eq!(terms, 2);
    /// # Ok(()) }
    /// ```
    pub fn resign(&self) {
        self.resigned.send_replace(true);
    }

    fn has_resigned(&self) -> bool {
        *self.resigned.borrow()
    }

    async fn resigned(&self) {
        // The sender lives as long as `self`, so the channel is not closed.
        let _ = self
            .resigned
            .subscribe()
            .wait_for(|resigned| *resigned)
            .await;
    }
}

impl Deref for Leader {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.held
    }
}

pin_project! {
    /// A candidacy for a lock, returned by [`Lock::lead`](crate::Semaphore::lead).
    ///
    /// It is a future of the body's value. It does nothing unless polled.
    #[must_use = "futures do nothing unless polled"]
    pub struct Lead<F> {
        #[pin]
        future: F,
        leadership: watch::Receiver<Leadership>,
    }
}

impl<F> Lead<F> {
    /// Returns a receiver of the states of this candidacy. Call it before the `.await`.
    ///
    /// The state is reported by the task that polls this future. It is late if that task does not
    /// run. [`Leader::check`](Held::check) is not, so call it before a step that only the leader may
    /// take.
    pub fn watch(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}

impl<F: Future> Future for Lead<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<F> fmt::Debug for Lead<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lead")
            .field("leadership", &*self.leadership.borrow())
            .finish_non_exhaustive()
    }
}

/// State of a candidacy, sent by [`Lead::watch`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leadership {
    /// The program does not lead. It waits for the lock, or has not yet begun to.
    Candidate,
    /// The program leads, and the body runs.
    #[non_exhaustive]
    Leading {
        /// The token of the hold. A program that has it can renew or release the lock, so keep it
        /// out of logs.
        token: Token,
        /// The [fence](Held::fence) of the hold, if there is one.
        fence: Option<u64>,
    },
    /// The future has ended or was dropped. The program does not lead any more.
    Ended,
}

/// The sending side of [`Lead::watch`]. Reports the end on drop.
struct Reporter(watch::Sender<Leadership>);

impl Reporter {
    /// Reports that `leader` leads, until the returned term is dropped.
    fn start_term(&self, leader: &Leader) -> Term<'_> {
        self.0.send_replace(Leadership::Leading {
            token: *leader.token(),
            fence: leader.fence(),
        });
        Term(self)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.0.send_replace(Leadership::Ended);
    }
}

/// A term as leader, which ends on drop.
struct Term<'a>(&'a Reporter);

impl Drop for Term<'_> {
    fn drop(&mut self) {
        let Self(Reporter(sender)) = self;
        sender.send_replace(Leadership::Candidate);
    }
}
