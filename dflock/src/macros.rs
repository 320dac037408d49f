//! Attribute macros.

/// Runs an `async fn` with a slot: acquires it before the body and releases it after the body.
///
/// The slot is free again however the body ends: with a value, `return`, `?`, a panic, or a drop of
/// the future. The caller gets the value or error of the body, even if the release fails; a failed
/// release is logged. The loss of the slot stops the body, unless `on_lost = finish`.
///
/// ```
/// # struct Report;
/// # type AppError = Box<dyn std::error::Error + Send + Sync>;
/// #[dflock::semaphore(key = "report:{tenant}", limit = 3)]
/// async fn build_report(tenant: &str) -> Result<Report, AppError> {
///     // At most three of these run at once for a tenant, on all machines together.
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
/// | argument | meaning | default | refused |
/// |---|---|---|---|
/// | `key` | the key of the semaphore: a template or an expression, see [below](#keys) | required | an empty key, more than 256 bytes, a space, tab, line break or NUL; `{}` and `{0}` in a template |
/// | `limit` | the number of slots: a literal or any `u32` | required | 0, and more than 1,048,576 |
/// | `client` | the [`Client`](crate::Client): a value, a reference, or a pointer such as an `Arc`. It is cloned, not moved | [`Client::current`](crate::Client::current): the client of the task's scope, else the global one, else one that is configured by the environment | |
/// | `acquire_timeout` | the longest wait for a slot: text such as `"2s"`, `"500ms"`, `"0.5s"`, `"1h30m"`, as [`parse_duration`](crate::parse_duration) parses it, or any [`Duration`](std::time::Duration) | 10 s | more than 9,223,372,036 s; zero as text: `Duration::ZERO` means "only a slot that is free now" |
/// | `lease_ttl` | the lease: how long the server keeps the slot of a holder that does not renew it. Text or a `Duration` as above. The lease is renewed while the body runs | the server's | less than 1 s, more than 9,223,372,036 s, and fractions of a second |
/// | `renew_ratio` | the fraction of the lease after which it is renewed: a literal or any `f64` | 0.5 | a value that is not between 0 and 1, both excluded |
/// | `on_limit_mismatch` | `fail`, `wait_out` or `adopt`: the reaction to a key that is in use with another limit, see [`LimitMismatch`](crate::LimitMismatch) | that of the client, which is `fail` unless it is set | anything else |
/// | `max_hold` | the longest time for which the slot is held: at its end the slot is lost, as in [`max_hold`](crate::SemaphoreBuilder::max_hold). Text or a `Duration` as above | unlimited | zero, and less than `lease_ttl` |
/// | `min_hold` | the shortest time for which the slot stays taken, even if the body ends before, as in [`min_hold`](crate::SemaphoreBuilder::min_hold). Text or a `Duration` as above | none | zero as text, and more than `max_hold` |
/// | `on_lost` | `cancel`: the loss of the slot stops the body; `finish`: the body runs to its end. See [below](#lost-slots) | `cancel` | anything else |
/// | `when_busy` | `error`: wait for a slot, and return the error when the wait is over; `skip`: return `Ok(Default::default())` at once when no slot is free. See [below](#busy-slots) | `error` | anything else; `skip` with `acquire_timeout` |
/// | `slot` | the name of a variable for the body: its slot, a `&`[`Held`](crate::Held) | none | anything but an identifier |
/// | `crate` | the path of `dflock`, if another crate re-exports it | `::dflock` | anything but a path |
///
/// Literals are checked at compile time, and every error is reported at its place. Expressions can
/// use the arguments of the function, `self`, `.await` and `?`. They are evaluated once for each
/// call, in source order, before the slot is acquired. Their values are checked before anything is
/// sent. Their borrows end before the wait begins. In a function of `#[async_trait]` they cannot
/// use the names in a destructured argument, such as `a` in `(a, b): (u8, u8)`.
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
///         println!("holds {} for {:?} more", held.key(), held.remaining());
///         // With `finish` a loss does not stop the body: check before an irreversible step.
///         held.check()?;
///         Ok(())
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let shop = Shop { region: "eu".into(), limit: 1, locks: server.client() };
/// # shop.ship(&Order { id: 1 }).await?;
/// # Ok(()) }
/// ```
///
/// # Keys
///
/// A literal key is a template as in `format!`. `{name}` inserts an argument of the function or any
/// other variable in scope, with format specs such as `{day:02}`. `{{` is a brace. Any other key is
/// an expression of a type that is `Into<String>`.
///
/// # Lost slots
///
/// With `on_lost = cancel` the body is dropped at its `.await` when its slot is lost, and the
/// caller gets [`Error::Lost`](crate::Error::Lost). A body that blocks its thread cannot be
/// stopped. If it returns `Ok` after the loss, its value is discarded and logged, and the caller
/// gets `Error::Lost`, because a value that was made without the slot is not a success. If it
/// returns an error, the caller gets that error.
///
/// With `on_lost = finish` the body runs to its end, and the caller gets its value.
///
/// # Busy slots
///
/// By default a call waits in the queue until a slot is free, for at most `acquire_timeout`. With
/// `when_busy = skip` it does not wait. When no slot is free, or others wait in the queue, the body
/// does not run, and the call returns `Ok` of the default of its value: `()`, `None`, an empty
/// `Vec`. Other errors of the acquire are returned as before. Use it for work that one program at a
/// time does for all:
///
/// ```
/// #[dflock::lock(key = "cleanup", when_busy = skip)]
/// async fn clean_up() -> Result<Option<u32>, dflock::Error> {
///     Ok(Some(7)) // the number of removed rows; `None` if another program cleans up
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # let client = server.client();
/// assert_eq!(client.clone().scope(clean_up()).await?, Some(7));
/// let elsewhere = client.lock("cleanup")?.acquire().await?;
/// assert_eq!(client.clone().scope(clean_up()).await?, None);
/// # Ok(()) }
/// ```
///
/// # Functions
///
/// The attribute accepts any `async fn` with a body that returns a `Result` whose error is
/// `From<dflock::Error>`: free functions and methods, generic functions, and functions in a trait
/// or an `impl`.
///
/// It also accepts a function that ends with `async move { .. }` or `Box::pin(async move { .. })`,
/// such as functions in `#[async_trait]` and recursive functions. Statements before the returned
/// future run without a slot and may not `return`.
///
/// Each nested call takes its own slot. A recursion deeper than `limit` therefore waits for itself
/// until `acquire_timeout`. Arguments that the body does not mention are dropped after the release.
///
/// The future is `Send` if the body's future and its value are `Send`, because the value is kept
/// during the release. A `Result` with `Box<dyn Error>` is not `Send`; one with `Box<dyn Error +
/// Send + Sync>` is.
///
/// A function has one attribute of dflock at most. Two of them would take their slots in the order of
/// the lines, and two functions with different orders could wait for each other. Call
/// [`acquire_all`](crate::acquire_all) in the body, which has one order for all programs.
///
/// Attributes below this one apply to the whole function, including the wait. Attributes above it
/// apply to the body, inside the slot. So the span of `#[tracing::instrument]` covers only the body
/// if it is above, and also the wait if it is below. `#[tokio::main]` and `#[tokio::test]` go
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
/// The function returns these errors, converted to its own error type:
///
/// - the errors of [`acquire`](crate::Semaphore::acquire); the body does not run then;
/// - [`Error::Config`](crate::Error::Config) if the value of an argument is refused;
/// - [`Error::Lost`](crate::Error::Lost) if the slot was lost before the body ended, unless
///   `on_lost = finish`. See [lost slots](#lost-slots).
///
/// # Cancel safety
///
/// Dropping the future drops the body, and frees the slot or leaves the queue. A body that is
/// stopped by a loss is dropped at its `.await`, like a cancelled one.
///
/// # Testing
///
/// With the feature `server`, each test has its own server on tokio's paused clock:
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
/// # let mut runtime = tokio::runtime::Builder::new_current_thread();
/// # runtime.enable_all().start_paused(true).build().unwrap().block_on(async {
/// let server = Server::start().await.unwrap();
/// let client = server.client_builder().connector(server.connector()).build().unwrap();
///
/// // A task that is spawned inside the scope would need its own scope.
/// let work = tokio::spawn(client.scope(nightly()));
/// while server.stats().semaphores.is_empty() {
///     tokio::task::yield_now().await;
/// }
/// server.faults().expire("nightly");
/// assert!(work.await.unwrap().unwrap_err().is_lost());
/// # });
/// ```
pub use dflock_macros::semaphore;

/// Runs an `async fn` with a lock: acquires it before the body and releases it after the body.
///
/// The attribute is [`#[semaphore]`](macro@crate::semaphore) with one slot. It has the same
/// arguments and defaults, except for `limit` and `on_limit_mismatch`, and the same rules for functions, errors,
/// cancellation and tests.
///
/// On servers before v1.14 a lock and a semaphore of the same key share it; see
/// [`Lock`](crate::Lock#locks-and-semaphores-of-one-key).
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
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = dflock::server::Server::start().await?;
/// # server.client().scope(nightly()).await?;
/// # Ok(()) }
/// ```
pub use dflock_macros::lock;
