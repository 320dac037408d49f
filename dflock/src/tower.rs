//! A layer for tower: the distributed sibling of `ConcurrencyLimit`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::error::{ConfigError, Error};
use crate::semaphore::{Held, Semaphore};

/// What a [`SlotService`] fails with: an [`Error`] of this crate, or that of the service inside. `downcast_ref` tells them
/// apart.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Lets a request pass when it holds a slot: all services on all machines together serve at most `limit` requests of a key at once,
/// first come, first served.
///
/// - The request says which semaphore it needs a slot of. It waits for that semaphore's `acquire_timeout`, and then fails with
///   [`Error::Timeout`].
/// - When the slot is lost, the future of the service inside is dropped, and the request fails with
///   [`Error::Lost`].
/// - The slot is given back when the service inside has answered. What it streams after that, it streams without a slot.
/// - When the future is dropped, the slot or the place in line is given up at once.
/// - A slot is waited for when the service inside is ready. What being ready takes up there, such as a permit of a local
///   `ConcurrencyLimit`, it takes up during the wait, too.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// use dflock::tower::SlotLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// // at most 3 reports of a tenant at once
/// let reports = ServiceBuilder::new()
///     .layer(SlotLayer::new(move |tenant: &String| client.semaphore(format!("report:{tenant}"), 3)))
///     .service(service_fn(async |tenant: String| Ok::<_, std::io::Error>(format!("the report of {tenant}"))));
///
/// assert_eq!(reports.oneshot("acme".to_owned()).await?, "the report of acme");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SlotLayer<C, A> {
    semaphore_for: C,
    on_acquired: A,
}

impl<C, R> SlotLayer<C, fn(&mut R, &Held)>
where
    C: Fn(&R) -> Result<Semaphore, ConfigError>,
{
    /// A layer that asks `semaphore_for` which semaphore a request needs a slot of; a request that it has none for fails with its error.
    ///
    /// One semaphore for all requests is `SlotLayer::new(move |_: &Request| Ok(pool.clone()))`.
    pub fn new(semaphore_for: C) -> Self {
        Self {
            semaphore_for,
            on_acquired: |_, _| {},
        }
    }
}

impl<C, A> SlotLayer<C, A> {
    /// Calls `on_acquired` with each request that has its slot, just before the service inside is called: to write into the request what the
    /// service needs to know of the slot, such as its [`fence`](Held::fence).
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
    /// let layer = SlotLayer::new(move |_: &Write| Ok(pool.clone())).on_acquired(|write: &mut Write, held: &Held| write.fence = held.fence());
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

/// Serves a request when it holds a slot. Made by a [`SlotLayer`].
#[derive(Clone)]
pub struct SlotService<S, C, A> {
    inner: S,
    layer: SlotLayer<C, A>,
}

impl<S, C, A, R> Service<R> for SlotService<S, C, A>
where
    S: Service<R, Error: Into<BoxError>, Response: Send, Future: Send> + Clone + Send + 'static,
    C: Fn(&R) -> Result<Semaphore, ConfigError>,
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
        // the one that said that it is ready serves; its clone may not be
        let fresh = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, fresh);
        let pool = (self.layer.semaphore_for)(&request).map_err(Error::from);
        let on_acquired = self.layer.on_acquired.clone();
        // boxed, because the futures below would have room for it more than once
        let call = Box::new((ready, request));
        let serve = async move |held: &Held| {
            let response = {
                let (mut ready, mut request) = *call;
                on_acquired(&mut request, held);
                ready.call(request)
            };
            response.await.map_err(Into::into)
        };
        Box::pin(async move { pool?.with_slot(serve).await? })
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
