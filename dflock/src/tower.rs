//! Layer for tower, like `ConcurrencyLimit` across processes and machines.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::error::{ConfigError, Error};
use crate::semaphore::{Held, Idle, Kind, Semaphore};

/// Error of a [`SlotService`]: an [`Error`] of this crate, or the error of the inner service.
///
/// `downcast_ref` distinguishes them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Layer that acquires a slot for each request.
///
/// All services on all machines together serve at most `limit` requests of a key at once, in the
/// order in which the requests arrived.
///
/// - Each request is mapped to a semaphore or a lock. It waits for a slot for at most the semaphore's
///   `acquire_timeout`, and then fails with [`Error::Timeout`].
/// - When the slot is lost, the future of the inner service is dropped, and the request fails with
///   [`Error::Lost`].
/// - The slot is released when the inner service has returned its response. A body that is streamed
///   later is streamed without a slot.
/// - Dropping the future frees the slot or leaves the queue.
/// - With [`max_hold`](crate::SemaphoreBuilder::max_hold) a request fails with [`Error::Lost`] at its
///   end. [`min_hold`](crate::SemaphoreBuilder::min_hold) bounds the rate of requests.
/// - The wait begins when the inner service is ready. A resource that makes it ready, such as a
///   permit of a local `ConcurrencyLimit`, stays in use during the wait.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// use dflock::tower::SlotLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// // At most 3 reports of a tenant are made at once.
/// let slot = SlotLayer::new(move |tenant: &String| {
///     client.semaphore(format!("report:{tenant}"), 3)
/// });
/// let reports = ServiceBuilder::new().layer(slot).service(service_fn(async |tenant: String| {
///     Ok::<_, std::io::Error>(format!("the report of {tenant}"))
/// }));
///
/// assert_eq!(reports.oneshot("acme".to_owned()).await?, "the report of acme");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SlotLayer<C, A> {
    semaphore_for: C,
    on_acquired: A,
}

impl<C, R, K: Kind> SlotLayer<C, fn(&mut R, &Held)>
where
    C: Fn(&R) -> Result<Semaphore<Idle, K>, ConfigError>,
{
    /// Creates a layer that acquires a slot of the semaphore that `semaphore_for` returns for a
    /// request.
    ///
    /// A request fails if `semaphore_for` returns an error for it. For one semaphore for all
    /// requests, write `SlotLayer::new(move |_: &Request| Ok(pool.clone()))`.
    pub fn new(semaphore_for: C) -> Self {
        Self {
            semaphore_for,
            on_acquired: |_, _| {},
        }
    }
}

impl<C, A> SlotLayer<C, A> {
    /// Calls `on_acquired` with each request and its slot before the inner service is called.
    ///
    /// Use it to add data of the slot to the request, such as its [`fence`](Held::fence).
    ///
    /// # Examples
    ///
    /// ```
    /// # use dflock::{Held, tower::SlotLayer};
    /// # fn f(pool: dflock::Semaphore) {
    /// struct Write {
    ///     row: String,
    ///     fence: Option<u64>,
    /// }
    ///
    /// let layer = SlotLayer::new(move |_: &Write| Ok(pool.clone()))
    ///     .on_acquired(|write: &mut Write, held: &Held| write.fence = held.fence());
    /// # }
    /// ```
    pub fn on_acquired<B, R>(self, on_acquired: B) -> SlotLayer<C, B>
    where
        B: Fn(&mut R, &Held),
    {
        SlotLayer {
            semaphore_for: self.semaphore_for,
            on_acquired,
        }
    }
}

impl<S, C: Clone, A: Clone> Layer<S> for SlotLayer<C, A> {
    type Service = SlotService<S, C, A>;

    fn layer(&self, inner: S) -> Self::Service {
        SlotService {
            inner,
            layer: self.clone(),
        }
    }
}

/// Service that acquires a slot for each request. Created by [`SlotLayer`].
#[derive(Clone)]
pub struct SlotService<S, C, A> {
    inner: S,
    layer: SlotLayer<C, A>,
}

impl<S, C, A, R, K: Kind> Service<R> for SlotService<S, C, A>
where
    S: Service<R, Error: Into<BoxError>, Response: Send, Future: Send> + Clone + Send + 'static,
    C: Fn(&R) -> Result<Semaphore<Idle, K>, ConfigError>,
    A: Fn(&mut R, &Held) + Clone + Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // The service that was polled ready handles the request, because its clone may not be
        // ready.
        let clone = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, clone);
        let semaphore = (self.layer.semaphore_for)(&request).map_err(Error::from);
        let on_acquired = self.layer.on_acquired.clone();
        // Boxed, because each of the nested futures below would reserve space for it.
        let call = Box::new((ready, request));
        let serve = async move |held: &Held| {
            let response = {
                let (mut ready, mut request) = *call;
                on_acquired(&mut request, held);
                ready.call(request)
            };
            response.await.map_err(Into::into)
        };
        Box::pin(async move { semaphore?.with_slot(serve).await? })
    }
}

impl<C, A> fmt::Debug for SlotLayer<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotLayer").finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, C, A> fmt::Debug for SlotService<S, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotService")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
