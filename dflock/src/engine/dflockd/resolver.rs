//! Lookup of host names, on threads that no runtime waits for.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clock::{Clock, Instant};
use crate::mutex::Mutex;

/// The age up to which a pending lookup is shared. Its answer may be as old as the lookup, and a
/// connection to an old address would outlive its age limit by that time.
const MAX_SHARED_AGE: Duration = Duration::from_secs(1);

/// The largest number of concurrent lookups of one name. Only a name whose lookup takes longer than
/// [`MAX_SHARED_AGE`] has more than one.
const MAX_LOOKUPS: usize = 8;

/// Looks host names up with the system's resolver, which blocks its thread.
///
/// Tokio's blocking pool is not used. A program may have filled it with tasks that wait for a slot,
/// and the shutdown of a runtime waits for its blocking tasks. Each lookup has a separate thread, so
/// that a name that hangs does not delay other names. Calls for a name share a lookup that began at
/// most 1 s ago. A name has at most 8 threads; while all of them hang, calls for it wait.
#[derive(Clone)]
pub(crate) struct Resolver {
    lookup: Arc<Lookup>,
    clock: Clock,
    names: Arc<Mutex<HashMap<String, Arc<Name>>>>,
}

/// The lookups of one name.
struct Name {
    /// The start of the last lookup, and the receiver of its answer.
    last: Mutex<Option<(Instant, Receiver)>>,
    /// One permit for each thread that may look the name up.
    threads: Arc<Semaphore>,
}

/// The blocking lookup of a `host:port`.
type Lookup = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The outcome of a lookup, for all calls that share it.
type Answer = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// Receives the answer of a lookup, once there is one.
type Receiver = watch::Receiver<Option<Answer>>;

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|server| Ok(server.to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    pub(super) fn new(
        lookup: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            // This clock includes suspended time, during which an answer gets older, too.
            clock: Clock::Boottime,
            names: Arc::default(),
        }
    }

    /// Returns the addresses of `server`, a `host:port`, in the order of the system's resolver.
    ///
    /// A numeric address needs no lookup and no thread.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. The thread of a lookup that no call waits for ends with the lookup.
    pub(crate) async fn resolve(&self, server: &str) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = server.parse::<SocketAddr>() {
            return Ok([address].into());
        }
        let name = self.name(server);
        let joined = self.join(name.last.lock().as_ref());
        let mut answer = if let Some(answer) = joined {
            answer
        } else {
            let permit = name.threads.clone().acquire_owned().await;
            self.join_or_start(server, &name, permit.map_err(io::Error::other)?)?
        };
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .map(|answer| answer.clone());
        match answer {
            Ok(Some(Ok(addresses))) => Ok(addresses),
            Ok(Some(Err(error))) => Err(io::Error::new(error.kind(), error)),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup of the name panicked")),
        }
    }

    fn name(&self, server: &str) -> Arc<Name> {
        let mut names = self.names.lock();
        let name = names.entry(server.to_owned()).or_insert_with(|| {
            Arc::new(Name {
                last: Mutex::default(),
                threads: Arc::new(Semaphore::new(MAX_LOOKUPS)),
            })
        });
        name.clone()
    }

    /// Returns the answer of the `last` lookup if the lookup is pending and recent.
    fn join(&self, last: Option<&(Instant, Receiver)>) -> Option<Receiver> {
        let (began, answer) = last?;
        // A lookup that panicked has no answer, and its sender was dropped.
        let is_pending = answer.borrow().is_none() && answer.has_changed().is_ok();
        let is_recent = self.clock.now().duration_since(*began) <= MAX_SHARED_AGE;
        (is_pending && is_recent).then(|| answer.clone())
    }

    /// Joins the pending lookup of `server`, or starts one on a separate thread that keeps `permit`.
    fn join_or_start(
        &self,
        server: &str,
        name: &Name,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Receiver> {
        let mut last = name.last.lock();
        if let Some(answer) = self.join(last.as_ref()) {
            return Ok(answer);
        }
        let (sender, receiver) = watch::channel(None);
        let (lookup, server) = (self.lookup.clone(), server.to_owned());
        let began = self.clock.now();
        // The thread is detached, because it may hang for as long as the system's resolver does.
        thread::Builder::new()
            .name("dflock-resolver".to_owned())
            .spawn(move || {
                let answer = lookup(&server).map(Into::into).map_err(Arc::new);
                drop(permit);
                sender.send_replace(Some(answer));
            })?;
        *last = Some((began, receiver.clone()));
        Ok(receiver)
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    /// The timeout of a test that would otherwise hang.
    const TOO_LONG: Duration = Duration::from_secs(20);

    /// Returns a resolver whose lookup of `hangs:1` hangs until the sender sends, and the number of
    /// lookups.
    fn hanging() -> (Resolver, mpsc::Sender<()>, Arc<AtomicUsize>) {
        let (go_on, wait) = mpsc::channel();
        let (wait, count) = (Mutex::new(wait), Arc::<AtomicUsize>::default());
        let looked_up = count.clone();
        let resolver = Resolver::new(move |server| {
            looked_up.fetch_add(1, Ordering::Relaxed);
            if server == "hangs:1" {
                let _ = wait.lock().recv();
            }
            Ok(vec![([127, 0, 0, 1], 1).into()])
        });
        (resolver, go_on, count)
    }

    #[tokio::test]
    async fn calls_for_one_name_share_a_lookup_and_other_names_do_not_wait_for_it() {
        let (resolver, go_on, count) = hanging();
        let call = || resolver.resolve("hangs:1");
        let other = async {
            let other = timeout(TOO_LONG, resolver.resolve("other:1")).await;
            go_on.send(()).unwrap();
            other.expect("another name waits for the lookup")
        };
        // `join!` polls all of them before it wakes any.
        let (first, second, third, other) = tokio::join!(call(), call(), call(), other);
        for found in [first, second, third, other] {
            assert_eq!(found.unwrap()[0].port(), 1);
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        // A later call looks the name up again, because its address may have changed.
        go_on.send(()).unwrap();
        resolver.resolve("hangs:1").await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    // Its answer may be older than a change of the address.
    #[tokio::test]
    async fn a_lookup_that_began_more_than_a_second_ago_is_not_joined() {
        let (resolver, go_on, count) = hanging();
        let millis = Arc::<AtomicUsize>::default();
        let now = millis.clone();
        let since = move || Duration::from_millis(now.load(Ordering::Relaxed) as u64);
        let clock = Clock::Custom(Arc::new(since));
        let resolver = Resolver { clock, ..resolver };
        let call_at = |at| {
            let (resolver, millis) = (&resolver, &millis);
            async move {
                millis.store(at, Ordering::Relaxed);
                resolver.resolve("hangs:1").await
            }
        };
        let end = async {
            while count.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            for _ in 0..2 {
                go_on.send(()).unwrap();
            }
        };
        // `join!` polls all of them before it wakes any.
        let calls = async { tokio::join!(call_at(0), call_at(1000), call_at(1001), end) };
        let (first, second, third, ()) = timeout(TOO_LONG, calls)
            .await
            .expect("an old lookup is joined");
        assert!(first.is_ok() && second.is_ok() && third.is_ok());
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    // Otherwise each call would start another thread that hangs.
    #[tokio::test]
    async fn a_name_whose_lookups_hang_has_a_limited_number_of_threads() {
        let (resolver, go_on, count) = hanging();
        let now = Arc::<AtomicUsize>::default();
        // The clock advances by 2 s for each call.
        let since = move || Duration::from_secs(2 * now.fetch_add(1, Ordering::Relaxed) as u64);
        let clock = Clock::Custom(Arc::new(since));
        let resolver = Resolver { clock, ..resolver };
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let resolver = resolver.clone();
            calls.spawn(async move { resolver.resolve("hangs:1").await });
        }
        let started = async {
            while count.load(Ordering::Relaxed) < MAX_LOOKUPS {
                tokio::task::yield_now().await;
            }
        };
        timeout(TOO_LONG, started)
            .await
            .expect("an old lookup is joined");
        assert_eq!(resolver.name("hangs:1").threads.available_permits(), 0);
        assert_eq!(count.load(Ordering::Relaxed), MAX_LOOKUPS);
        for _ in 0..20 {
            go_on.send(()).unwrap();
        }
        let ended = timeout(TOO_LONG, calls.join_all())
            .await
            .expect("a call hangs");
        assert!(ended.iter().all(io::Result::is_ok));
    }

    #[test]
    fn a_runtime_ends_while_a_lookup_hangs() {
        let (resolver, go_on, _) = hanging();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                _ = resolver.resolve("hangs:1") => panic!("it hangs"),
                () = tokio::task::yield_now() => {}
            }
        });
        let (ended, end) = mpsc::channel();
        thread::spawn(move || {
            drop(runtime);
            ended.send(()).unwrap();
        });
        end.recv_timeout(TOO_LONG)
            .expect("the runtime waits for the lookup");
        drop(go_on);
    }

    #[tokio::test]
    async fn a_numeric_address_is_not_looked_up() {
        let (resolver, _, count) = hanging();
        for address in ["127.0.0.1:6388", "[::1]:6388"] {
            let found = resolver.resolve(address).await.unwrap();
            assert_eq!(*found, [address.parse().unwrap()]);
        }
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_failed_lookup_is_an_error_that_is_tried_again() {
        let count = Arc::<AtomicUsize>::default();
        let looked_up = count.clone();
        let resolver = Resolver::new(move |_| match looked_up.fetch_add(1, Ordering::Relaxed) {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            1 => panic!("a resolver that panics"),
            _ => Ok(vec![([127, 0, 0, 1], 1).into()]),
        });
        let error = resolver.resolve("name:1").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::NotFound, "no such name")
        );
        resolver.resolve("name:1").await.unwrap_err();
        resolver.resolve("name:1").await.unwrap();
    }
}
