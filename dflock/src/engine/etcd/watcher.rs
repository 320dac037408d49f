//! The watches of a session: one for each queue in which it waits, all on one stream.
//!
//! Watches are hints. The queue is read after each interruption.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep};
use tonic::Streaming;

use super::connection::Connection;
use super::error::CallError;
use super::messages::{
    WatchCancelRequest, WatchCommand, WatchCreateRequest, WatchFilter, WatchRequest, WatchResponse,
};
use super::queue::Queue;
use super::session_state::SessionState;

/// The longest pause before the stream is opened again, so that a member that closes it at once is
/// not asked without a pause.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// The queues that are watched.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    queues: RefCell<BTreeMap<WatchId, Rc<Queue>>>,
    last_id: Cell<i64>,
    /// The requests of the open stream.
    requests: RefCell<Option<mpsc::UnboundedSender<WatchRequest>>>,
    /// Notified when the first queue is added, or the last one removed.
    changed: Notify,
}

/// The id of a watch, which this client chooses. No other watch has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WatchId(i64);

impl Watcher {
    /// Watches `queue` until the watch is removed.
    pub(super) fn add(&self, queue: Rc<Queue>) -> WatchId {
        let id = self.next_id();
        self.send(create(id, &queue, queue.watch_from()));
        self.queues.borrow_mut().insert(id, queue);
        self.changed.notify_one();
        id
    }

    pub(super) fn remove(&self, id: WatchId) {
        self.queues.borrow_mut().remove(&id);
        self.send(cancel(id));
        self.changed.notify_one();
    }

    fn next_id(&self) -> WatchId {
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        WatchId(id)
    }

    fn send(&self, request: WatchRequest) {
        if let Some(requests) = &*self.requests.borrow() {
            // The stream has ended, and is opened again with all watches.
            _ = requests.send(request);
        }
    }

    fn is_empty(&self) -> bool {
        self.queues.borrow().is_empty()
    }

    fn mark_stale(&self) {
        for queue in self.queues.borrow().values() {
            queue.mark_stale();
        }
    }

    /// Applies a response. Returns whether its watch lives on.
    fn apply(&self, response: &WatchResponse) -> bool {
        let queues = self.queues.borrow();
        // A watch ends when its revision was compacted, or when the member gives it up. The end of
        // one that was removed answers the request of this client. A watch that is refused, for
        // example because the token of the user is not known, has another id.
        if response.canceled {
            return !response.created && !queues.contains_key(&WatchId(response.watch_id));
        }
        if let Some(queue) = queues.get(&WatchId(response.watch_id)) {
            queue.apply_events(&response.events);
        }
        true
    }

    /// Keeps the stream open while a queue is watched.
    pub(super) async fn run(self: Rc<Self>, state: Rc<SessionState>) {
        let mut pauses = state.backoff(MAX_PAUSE);
        loop {
            while self.is_empty() {
                self.changed.notified().await;
            }
            let opened_at = Instant::now();
            if let Ok((stream, connection)) = self.open(&state).await {
                self.apply_all(stream, &connection).await;
                if opened_at.elapsed() >= MAX_PAUSE {
                    pauses.reset();
                }
            }
            self.requests.take();
            self.mark_stale();
            if self.is_empty() {
                // This client has ended the stream. The next wait begins without a pause.
                pauses.reset();
            } else {
                sleep(pauses.pause()).await;
            }
        }
    }

    async fn open(
        &self,
        state: &SessionState,
    ) -> Result<(Streaming<WatchResponse>, Rc<Connection>), CallError> {
        let (requests, received) = mpsc::unbounded_channel();
        // Set before the stream is open: what is added meanwhile is sent on it.
        for (id, queue) in &*self.queues.borrow() {
            // The receiver is here.
            _ = requests.send(create(*id, queue, queue.watch_from()));
        }
        *self.requests.borrow_mut() = Some(requests);
        state.cluster.watch(received, state.request_limits()).await
    }

    /// Applies the responses until the stream or a watch ends, the connection is not to be used any
    /// more, or no queue is watched. The queues are read then, so a new watch begins after a
    /// compacted revision.
    async fn apply_all(&self, mut stream: Streaming<WatchResponse>, connection: &Connection) {
        loop {
            tokio::select! {
                response = stream.message() => match response {
                    Ok(Some(response)) if self.apply(&response) => {}
                    Ok(_) | Err(_) => return,
                },
                () = connection.wait_retired() => return,
                () = self.changed.notified() => {
                    if self.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

fn create(WatchId(watch_id): WatchId, queue: &Queue, start_revision: i64) -> WatchRequest {
    let (key, range_end) = queue.name.range();
    let command = WatchCommand::Create(WatchCreateRequest {
        key,
        range_end,
        start_revision,
        filters: vec![WatchFilter::NoPut.into()],
        prev_kv: true,
        watch_id,
    });
    WatchRequest {
        command: Some(command),
    }
}

fn cancel(WatchId(watch_id): WatchId) -> WatchRequest {
    let command = WatchCommand::Cancel(WatchCancelRequest { watch_id });
    WatchRequest {
        command: Some(command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::etcd::keys::Layout;
    use crate::wire::Kind;

    #[test]
    fn the_cancel_of_a_queue_without_waiters_ends_no_other_watch() {
        let watcher = Watcher::default();
        let queue = || Queue::new(Layout::new("").queue(Kind::Lock, "key"));
        let (removed, kept) = (watcher.add(queue()), watcher.add(queue()));
        let cancelled = |WatchId(watch_id)| WatchResponse {
            canceled: true,
            watch_id,
            ..WatchResponse::default()
        };
        watcher.remove(removed);
        assert!(watcher.apply(&cancelled(removed)));
        assert!(!watcher.apply(&cancelled(kept)));
    }

    #[test]
    fn a_watch_that_is_refused_ends_the_stream() {
        let watcher = Watcher::default();
        watcher.add(Queue::new(Layout::new("").queue(Kind::Lock, "key")));
        assert!(!watcher.apply(&WatchResponse {
            created: true,
            canceled: true,
            watch_id: -1,
            ..WatchResponse::default()
        }));
    }
}
