//! The attribute macros, and what they take.

/// Runs an `async fn` with a slot: it is acquired before the body and released after it.
///
/// However the body ends, the slot is given back behind it: on its value, `return`, `?`, a panic, and when the future is dropped. The
/// caller gets the body's value or error, whatever becomes of the release: one that fails is logged. A slot that is lost stops the body,
/// unless `on_lost = finish`.
///
/// ```
/// # struct Report;
/// # type AppError = Box<dyn std::error::Error + Send + Sync>;
/// #[dflock::semaphore(key = "report:{tenant}", limit = 3)]
/// async fn build_report(tenant: &str) -> Result<Report, AppError> {
///     // at most three of these run at once for a tenant, on all machines together
///     # tokio::task::yield_now().await;
///     Ok(Report)
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), AppError> {
/// # let server = dflock::server::Server::start().await?;
/// # server.client().scope(build_report("acme")).await?;
/// # Ok(()) }
/// ```
///
/// # Arguments
///
/// | argument | what | default | refused |
/// |---|---|---|---|
/// | `key` | the name that all who share the semaphore give: a literal, in which `{name}` is an argument of the function or whatever else is in scope, as in `format!`, with its format specs, and `{{` a brace; or any expression that is `Into<String>` | required | what is empty, is over 256 bytes, or has a space, tab, line break or NUL; `{}` and `{0}`, which name nothing |
/// | `limit` | how many slots there are: a literal, or any `u32` | required | 0, and more than 1,048,576 |
/// | `client` | the [`Client`](crate::Client) to use: one, a reference to one, or a pointer to one, as an `Arc` is. It is cloned, not moved | [`Client::current`](crate::Client::current): the task's scope's, else the global one, else one made from the environment | |
/// | `acquire_timeout` | how long to wait in line: text such as `"2s"`, `"500ms"`, `"1h30m"` (units d, h, m, s, ms), or any [`Duration`](std::time::Duration) | 10 s | more than 9,223,372,036 s; as text, zero: `Duration::ZERO` means "only if one is free now" |
/// | `lease_ttl` | how long the server keeps the slot without hearing of its holder: text or a `Duration` as above. It is renewed for as long as the body runs | the server's | less than 1 s, more than 9,223,372,036 s, and parts of a second |
/// | `renew_ratio` | the part of a lease after which it is renewed: a literal, or any `f64` | 0.5 | what does not lie between 0 and 1, both excluded |
/// | `on_lost` | `cancel`: the body is stopped when its slot is lost, and the caller gets [`Error::Lost`](crate::Error::Lost); so it does when the body ends with `Ok` before it can be stopped, but an `Err` of its own stands; `finish`: it runs on, and the caller gets what it gives | `cancel` | anything else |
/// | `slot` | the name under which the body sees its slot, a `&`[`Held`](crate::Held) | none | what is not an identifier |
/// | `crate` | where `dflock` is, for those who re-export it | `::dflock` | what is not a path |
///
/// Literals are checked at compile time, and every mistake is reported where it is. Expressions see the arguments of the function and
/// `self`, may `.await` and `?`, and are evaluated once for each call, in the order in which they are written, before the slot is
/// acquired; what they give is checked then, before anything is sent. What they borrow is given back before the wait begins. Inside of
/// `#[async_trait]` they do not see the names in an argument that is taken apart, such as `a` in `(a, b): (u8, u8)`.
///
/// ```
/// # use std::time::Duration;
/// # struct Order { id: u64 }
/// struct Shop {
///     region: String,
///     limit: u32,
///     locks: dflock::Client,
/// }
///
/// impl Shop {
///     #[dflock::semaphore(
///         key = format!("{}:{}", self.region, order.id),
///         limit = self.limit,
///         client = self.locks,
///         acquire_timeout = Duration::from_secs(2),
///         lease_ttl = "30s",
///         renew_ratio = 0.4,
///         on_lost = finish,
///         slot = held,
///     )]
///     pub async fn ship(&self, order: &Order) -> Result<(), dflock::Error> {
///         println!("slot of {}, {:?} left for certain", held.key(), held.remaining());
///         // nobody stops this body: it asks before it does what cannot be undone
///         held.check()?;
///         Ok(())
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let shop = Shop { region: "eu".into(), limit: 1, locks: server.client() };
/// # shop.ship(&Order { id: 1 }).await?;
/// # Ok(()) }
/// ```
///
/// # Functions
///
/// Any `async fn` with a body that returns a `Result` whose error is `From<dflock::Error>`: free or a method, generic, in a trait or in
/// an `impl` of one. So is a function that ends with `async move { .. }` or `Box::pin(async move { .. })`, as functions inside of
/// `#[async_trait]` do, and those that call themselves; then what stands before is done without a slot, and may not `return`. A call
/// inside of a call takes a slot of its own, so that a recursion deeper than `limit` waits for itself until `acquire_timeout`.
/// Arguments that the body does not mention are dropped after the release, not before it.
///
/// The future is `Send` when that of the body and its value are, for the value is kept while the slot is given back: one that returns a
/// `Box<dyn Error>` is not, and with `Box<dyn Error + Send + Sync>` it is.
///
/// Attributes below this one go around it all, waiting included; those above go around the body, inside the slot. So
/// `#[tracing::instrument]` above has a span for the work alone, and below for the wait, too. `#[tokio::main]` and `#[tokio::test]` go
/// below:
///
/// ```no_run
/// #[dflock::semaphore(key = "importers", limit = 2)]
/// #[tokio::main]
/// async fn main() -> Result<(), dflock::Error> {
///     # tokio::task::yield_now().await;
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// The function returns, as its own error: what [`acquire`](crate::Semaphore::acquire) fails with, and then the body has not run;
/// [`Error::Config`](crate::Error::Config) when the value of an argument is refused; and [`Error::Lost`](crate::Error::Lost) when the
/// slot was lost before the body ended, unless `on_lost = finish`. A body that kept its thread busy while the slot was lost cannot be
/// stopped: when it ends with `Ok`, its value is given up, which is logged, and the caller gets `Error::Lost`, for a value that was made
/// without the slot is no success; when it ends with an error of its own, the caller gets that.
///
/// # Cancel safety
///
/// Dropping the future drops the body, and gives up the slot or the place in line. A body that is stopped by a loss is dropped at its
/// `.await`, as one that is cancelled.
///
/// # Testing
///
/// With the feature `server`, each test has a server of its own, on tokio's paused clock:
///
/// ```
/// use std::future::pending;
/// use dflock::server::Server;
///
/// #[dflock::semaphore(key = "nightly", limit = 1)]
/// async fn nightly() -> Result<(), dflock::Error> {
///     pending().await
/// }
///
/// # tokio::macro_support::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// let server = Server::start().await.unwrap();
/// let client = server.client_builder().connector(server.connector()).build().unwrap();
///
/// let work = tokio::spawn(client.scope(nightly())); // a task that is spawned inside needs a scope of its own
/// while server.stats().semaphores.is_empty() {
///     tokio::task::yield_now().await;
/// }
/// server.faults().expire("nightly");
/// assert!(work.await.unwrap().unwrap_err().is_lost());
/// # });
/// ```
pub use dflock_macros::semaphore;

/// Runs an `async fn` with a lock: it is acquired before the body and released after it.
///
/// It is [`#[semaphore]`](macro@crate::semaphore) with one slot: the same arguments with the same defaults, but no `limit`, and what is
/// said there of functions, errors, cancellation and tests holds here. A lock and a semaphore of one key share it on servers before v1.14;
/// see [`Lock`](crate::Lock#locks-and-semaphores-of-one-key).
///
/// # Examples
///
/// ```
/// #[dflock::lock(key = "nightly", acquire_timeout = "500ms", slot = held)]
/// async fn nightly() -> Result<(), dflock::Error> {
///     for table in ["orders", "customers"] {
///         held.check()?;
///         println!("cleaning up {table}");
///     }
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # server.client().scope(nightly()).await?;
/// # Ok(()) }
/// ```
pub use dflock_macros::lock;
