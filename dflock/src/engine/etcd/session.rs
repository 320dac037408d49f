//! The session of a client: its leases, its entries and its watches, on a separate thread.
//!
//! The thread does not wait for the executor of the user, so leases are renewed while that is
//! blocked, and slots are released when it has ended.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::thread;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::entry::{self, EntryHandle, EntrySession, EntrySpec};
use super::entry_task;
use super::leases::Leases;
use super::queue_entry::EntryContext;
use super::queues::Queues;
use super::session_state::{Config, SessionState};

/// The user's side of a session. The thread ends with its last clone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    commands: mpsc::UnboundedSender<Command>,
}

/// A task of the session.
type Task = Pin<Box<dyn Future<Output = ()>>>;

enum Command {
    Join(EntrySession, EntrySpec),
    Run(Box<dyn FnOnce(Rc<SessionState>) -> Task + Send>),
    EndLeases(oneshot::Sender<()>),
}

impl Session {
    /// Starts the thread. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The error of the operating system if there can be no other thread.
    pub(super) fn start(config: Config) -> io::Result<Self> {
        let (commands, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("dflock-etcd".to_owned())
            .spawn(move || {
                let state = Rc::new(SessionState::new(config));
                let local = LocalSet::new();
                local.block_on(&runtime, run(state, received));
            })?;
        Ok(Self { commands })
    }

    /// Returns whether the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// Makes an entry. The session serves it until its handle is dropped.
    pub(super) fn join(&self, spec: EntrySpec) -> EntryHandle {
        let (handle, owner) = entry::entry();
        // If the session has ended, the entry ends as it is dropped.
        drop(self.commands.send(Command::Join(owner, spec)));
        handle
    }

    /// Runs `request` on the thread of the session. Returns `None` if the session has ended.
    pub(super) async fn run<T, F>(
        &self,
        request: impl FnOnce(Rc<SessionState>) -> F + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let (mut reply, replied) = oneshot::channel();
        let task = move |state| -> Task {
            Box::pin(async move {
                tokio::select! {
                    response = request(state) => drop(reply.send(response)),
                    // The caller was cancelled.
                    () = reply.closed() => {}
                }
            })
        };
        self.commands.send(Command::Run(Box::new(task))).ok()?;
        replied.await.ok()
    }

    /// Ends all leases, and with them the entries that are being released. No entry joins from here
    /// on. A session that has ended has no lease.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not stop the requests to the cluster.
    pub(super) async fn end_leases(&self) {
        let (ended, has_ended) = oneshot::channel();
        // Both fail only if the session has ended.
        _ = self.commands.send(Command::EndLeases(ended));
        _ = has_ended.await;
    }
}

/// Serves the commands until all clones of the session are dropped, or a task has panicked.
async fn run(state: Rc<SessionState>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let leases = Leases::new(state.clone());
    let context = EntryContext {
        state: state.clone(),
        leases: leases.clone(),
        queues: Queues::start(state.clone()),
    };
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            // Each owner learns of the end, and the next request starts another session.
            () = state.wait_for_panic() => return,
        };
        match command {
            Some(Command::Join(owner, spec)) => {
                state.spawn(entry_task::run(context.clone(), owner, spec));
            }
            Some(Command::Run(request)) => state.spawn(request(state.clone())),
            Some(Command::EndLeases(ended)) => {
                let leases = leases.clone();
                state.spawn(async move {
                    leases.end_all().await;
                    _ = ended.send(());
                });
            }
            None => return leases.end_all().await,
        }
    }
}
