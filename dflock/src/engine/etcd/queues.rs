//! The queues in which entries of a session wait, each with a task that reads it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::keys::QueueName;
use super::queue::Queue;
use super::session_state::{RETRY_PAUSE, SessionState};
use super::txn;
use super::watcher::Watcher;

/// A queue is read this often while an entry waits in it, because watches have lost deletions
/// (etcd#17529, #18089, #19179).
const REREAD_INTERVAL: Duration = Duration::from_secs(5);

/// The queues in which an entry waits.
pub(super) struct Queues {
    state: Rc<SessionState>,
    watcher: Rc<Watcher>,
    by_name: RefCell<HashMap<QueueName, Rc<Queue>>>,
}

impl Queues {
    /// Starts the task of the watches.
    pub(super) fn start(state: Rc<SessionState>) -> Rc<Self> {
        let watcher = Rc::new(Watcher::default());
        state.spawn(watcher.clone().run(state.clone()));
        Rc::new(Self {
            state,
            watcher,
            by_name: RefCell::default(),
        })
    }

    /// Returns the queue of `name`, whose task runs as long as an entry waits in it.
    pub(super) fn queue(self: &Rc<Self>, name: &QueueName) -> Rc<Queue> {
        let mut queues = self.by_name.borrow_mut();
        let queue = queues.entry(name.clone()).or_insert_with(|| {
            let queue = Queue::new(name.clone());
            self.state.spawn(self.clone().run_queue(queue.clone()));
            queue
        });
        queue.clone()
    }

    /// Watches and reads a queue until no entry waits in it.
    async fn run_queue(self: Rc<Self>, queue: Rc<Queue>) {
        let watch = self.watcher.add(queue.clone());
        let mut reread_at = Instant::now() + REREAD_INTERVAL;
        while !queue.is_empty() {
            let Some(up_to) = queue.read_up_to() else {
                tokio::select! {
                    () = queue.wait_for_change() => {}
                    () = sleep_until(reread_at) => queue.mark_stale(),
                }
                continue;
            };
            let was_stale = queue.start_read();
            let request = txn::entries(&queue.name, up_to);
            let limits = self.state.request_limits();
            if let Ok(read) = self.state.cluster.call(&request, limits).await {
                let read = read.response;
                let revision = read.header.map_or(0, |header| header.revision);
                if !queue.apply_read(&read.kvs, up_to, revision) {
                    queue.mark_stale();
                } else if was_stale {
                    reread_at = Instant::now() + REREAD_INTERVAL;
                }
            } else {
                queue.mark_stale();
                sleep(RETRY_PAUSE).await;
            }
        }
        self.watcher.remove(watch);
        self.by_name.borrow_mut().remove(&queue.name);
    }
}
