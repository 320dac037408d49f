//! Look-up of host names, on threads that no runtime waits for.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use tokio::sync::watch;

use crate::mutex::Mutex;

/// Looks host names up with the system's resolver, which blocks its thread.
///
/// Tokio's blocking pool is not used: a program may have filled it with tasks that wait for a slot,
/// and a runtime that ends waits for its blocking tasks. Each look-up has a thread of its own, so a
/// name that hangs does not delay other names. Calls for a name that is being looked up share that
/// look-up: there are never more threads than names.
#[derive(Clone)]
pub(crate) struct Resolver {
    look_up: Arc<LookUp>,
    /// The last look-up of each name.
    last: Arc<Mutex<HashMap<String, Receiver>>>,
}

/// The blocking look-up of a `host:port`.
type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The outcome of a look-up, for all calls that share it.
type Answer = Result<Arc<[SocketAddr]>, Arc<io::Error>>;

/// Receives the answer of a look-up, once there is one.
type Receiver = watch::Receiver<Option<Answer>>;

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|server| Ok(server.to_socket_addrs()?.collect()))
    }
}

impl Resolver {
    pub(super) fn new(
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            look_up: Arc::new(look_up),
            last: Arc::default(),
        }
    }

    /// Returns the addresses of `server`, a `host:port`, in the order of the system's resolver.
    ///
    /// A numeric address needs no look-up and no thread.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. The thread of a look-up that no call waits for ends with the look-up.
    pub(crate) async fn resolve(&self, server: &str) -> io::Result<Arc<[SocketAddr]>> {
        if let Ok(address) = server.parse::<SocketAddr>() {
            return Ok([address].into());
        }
        let mut answer = self.join(server)?;
        let answer = answer
            .wait_for(Option::is_some)
            .await
            .map(|answer| answer.clone());
        match answer {
            Ok(Some(Ok(addresses))) => Ok(addresses),
            Ok(Some(Err(error))) => Err(io::Error::new(error.kind(), error)),
            Ok(None) | Err(_) => Err(io::Error::other("the look-up of the name panicked")),
        }
    }

    /// Joins the look-up of `server`, or starts one when there is none.
    fn join(&self, server: &str) -> io::Result<Receiver> {
        let mut last = self.last.lock();
        // one that panicked has no answer, and its sender is gone
        let is_pending =
            |answer: &&Receiver| answer.borrow().is_none() && answer.has_changed().is_ok();
        if let Some(answer) = last.get(server).filter(is_pending) {
            return Ok(answer.clone());
        }
        let (sender, receiver) = watch::channel(None);
        let (look_up, name) = (self.look_up.clone(), server.to_owned());
        // detached: nothing waits for a thread that may hang for as long as the system likes
        thread::Builder::new()
            .name("dflock-resolver".to_owned())
            .spawn(move || {
                let answer = look_up(&name).map(Into::into).map_err(Arc::new);
                sender.send_replace(Some(answer));
            })?;
        last.insert(server.to_owned(), receiver.clone());
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
    use std::time::Duration;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    /// Only a test that fails waits for this long.
    const TOO_LONG: Duration = Duration::from_secs(20);

    /// A resolver whose look-up of `hangs:1` hangs until the sender sends, and the number of look-ups.
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
    async fn calls_for_one_name_share_a_look_up_and_other_names_do_not_wait_for_it() {
        let (resolver, go_on, count) = hanging();
        let call = || resolver.resolve("hangs:1");
        let other = async {
            let other = timeout(TOO_LONG, resolver.resolve("other:1")).await;
            go_on.send(()).unwrap();
            other.expect("it waits")
        };
        // `join` polls all before any of them is woken
        let (first, second, third, other) = tokio::join!(call(), call(), call(), other);
        for found in [first, second, third, other] {
            assert_eq!(found.unwrap()[0].port(), 1);
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        // a later call looks the name up again: it may have moved
        go_on.send(()).unwrap();
        resolver.resolve("hangs:1").await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_runtime_ends_while_a_look_up_hangs() {
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
            .expect("the runtime waits for the look-up");
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
    async fn a_failed_look_up_is_an_error_that_is_tried_again() {
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
