//! The task that stays with a connection: a hold that is over at once needs none of its own.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::AbortHandle;

use crate::mutex::Mutex;

/// What is to be done about a connection while it is held.
pub(crate) trait Duty: Send + Sync + 'static {
    /// Does it until it is over.
    fn attend(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Nobody will attend to it: the connection has ended, or the runtime.
    fn abandon(self: Arc<Self>);
}

/// A task that sleeps until something happens on its connection, and then attends to the duty that it has, if any. Dropping this
/// stops it.
#[derive(Debug)]
pub(crate) struct Attendant {
    post: Arc<Post>,
    task: AbortHandle,
}

impl Attendant {
    /// Starts the task, on the runtime that this is called on.
    pub(crate) fn start() -> Self {
        let post = Arc::new(Post::default());
        let task = tokio::spawn(Service(post.clone()).serve()).abort_handle();
        Self { post, task }
    }

    /// Gives it `duty`, and says whom to wake when there is something to do; nobody while the task will look by itself.
    /// [`Gone`]: the task is no more.
    pub(crate) fn entrust(&self, duty: Arc<dyn Duty>) -> Result<Option<Waker>, Gone> {
        let mut state = self.post.0.lock();
        if state.gone {
            return Err(Gone);
        }
        state.duty = Some(duty);
        Ok(state.asleep.clone())
    }

    /// Takes the duty back, if it has not begun.
    pub(crate) fn relieve(&self) {
        let duty = self.post.0.lock().duty.take();
        drop(duty);
    }

    /// Lets it begin.
    pub(crate) fn wake(&self) {
        let asleep = self.post.0.lock().asleep.clone();
        if let Some(waker) = asleep {
            waker.wake();
        }
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// There is no task any more that could attend to anything.
#[derive(Debug)]
pub(crate) struct Gone;

/// Where the task and the holders of the connection meet.
#[derive(Debug, Default)]
struct Post(Mutex<State>);

#[derive(Default)]
struct State {
    /// What has not begun yet.
    duty: Option<Arc<dyn Duty>>,
    /// Wakes the task; from its first sleep on.
    asleep: Option<Waker>,
    gone: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("has_duty", &self.duty.is_some()).field("gone", &self.gone).finish_non_exhaustive()
    }
}

/// The task's side. However the task ends, even before its first poll, nobody relies on it any longer.
struct Service(Arc<Post>);

impl Service {
    async fn serve(self) {
        loop {
            poll_fn(|cx| self.poll_duty(cx)).await.attend().await;
        }
    }

    fn poll_duty(&self, cx: &mut Context<'_>) -> Poll<Arc<dyn Duty>> {
        let mut state = self.0.0.lock();
        if let Some(duty) = state.duty.take() {
            return Poll::Ready(duty);
        }
        if state.asleep.is_none() {
            // a task has one waker for all its life
            state.asleep = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        state.gone = true;
        let (duty, asleep) = (state.duty.take(), state.asleep.take());
        drop((state, asleep));
        if let Some(duty) = duty {
            duty.abandon();
        }
    }
}
