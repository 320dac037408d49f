//! The background thread of a blocking client.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::ConfigError;
use crate::lease::HoldRegistry;

/// A thread with a runtime. It drives the sockets and timers of a blocking client, and runs the
/// keep-alive tasks. It ends after this is dropped.
#[derive(Debug)]
pub struct Background {
    runtime: Handle,
    /// Dropped to end the thread.
    _alive: oneshot::Sender<Infallible>,
}

impl Background {
    /// Starts the thread for the client of `holds`.
    pub(super) fn start(holds: Arc<HoldRegistry>) -> Result<Arc<Self>, ConfigError> {
        let (alive, ended) = oneshot::channel();
        let (started, runtime) = mpsc::sync_channel(1);
        // The runtime is made and dropped on its thread: a drop in an async context would panic.
        let serve = move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            // The receiver waits for it.
            let _ = started.send(Ok(runtime.handle().clone()));
            runtime.block_on(async {
                let _: Result<Infallible, _> = ended.await;
                // Slots that were given up before `min_hold` was over still stay taken until then.
                holds.close();
                holds.emptied().await;
            });
        };
        let refused = |error: &io::Error| ConfigError::BackgroundThread { kind: error.kind() };
        thread::Builder::new()
            .name("dflock".to_owned())
            .spawn(serve)
            .map_err(|error| refused(&error))?;
        let runtime = runtime
            .recv()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            .map_err(|error| refused(&error))?;
        Ok(Arc::new(Self {
            runtime,
            _alive: alive,
        }))
    }

    /// Waits for `future`, which is polled on the thread of the caller.
    ///
    /// # Panics
    ///
    /// In a context of an async runtime.
    #[track_caller]
    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(
            may_block(),
            "a call of dflock::blocking that waits was made inside of an async runtime, whose tasks \
             it would stop; use the async API of dflock, such as `dflock::Client`, or move the call \
             to `tokio::task::spawn_blocking`"
        );
        self.runtime.block_on(future)
    }
}

/// Returns whether the thread of the caller may block: it runs no tasks of a runtime of tokio.
fn may_block() -> bool {
    let Ok(current) = Handle::try_current() else {
        return true;
    };
    // A thread of `spawn_blocking` has a current runtime, too. Tokio tells the two apart only by a
    // panic, which the panic hook prints.
    catch_unwind(AssertUnwindSafe(|| current.block_on(ready(())))).is_ok()
}
