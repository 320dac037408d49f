//! Workers that are tasks of a tokio runtime.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Result;
use crate::contender::Load;
use crate::flags::Runtime;
use crate::round::{Left, Log, Round, Watch};

/// One of many that do the same.
pub(crate) trait Worker: Send + 'static {
    /// Makes one cycle, and notes it.
    fn cycle(&mut self, log: &mut Log) -> impl Future<Output = Result<()>> + Send;
}

/// Runs a task for each worker of the load.
pub(crate) fn run<W: Worker>(
    load: &Load,
    kind: Runtime,
    make: impl AsyncFn(u32) -> Result<W>,
) -> Result<Round> {
    start(kind)?.block_on(async {
        let left = Arc::new(Left::new(load.cycles));
        let ready = Arc::new(Barrier::new(load.workers as usize + 1));
        let mut workers = Vec::new();
        for index in 0..load.workers {
            workers.push(make(index).await?);
        }
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(work(worker, load.warm_up(), ready.clone(), left.clone()));
        }
        // they are warm, then they are off
        ready.wait().await;
        let watch = Watch::start();
        ready.wait().await;
        let mut logs = Vec::new();
        while let Some(log) = tasks.join_next().await {
            logs.push(log??);
        }
        Ok(watch.stop(&logs))
    })
}

/// A new runtime.
pub(crate) fn start(kind: Runtime) -> Result<tokio::runtime::Runtime> {
    let mut builder = match kind {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}

async fn work(
    mut worker: impl Worker,
    warm_up: u32,
    ready: Arc<Barrier>,
    left: Arc<Left>,
) -> Result<Log> {
    let mut warm = Ok(());
    for _ in 0..warm_up {
        warm = worker.cycle(&mut Log::default()).await;
        if warm.is_err() {
            break;
        }
    }
    ready.wait().await;
    ready.wait().await;
    warm?;
    let mut log = Log::default();
    while left.take() {
        worker.cycle(&mut log).await?;
    }
    Ok(log)
}
