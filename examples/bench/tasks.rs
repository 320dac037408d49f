//! Workers that are tasks of a tokio runtime.

use std::sync::Arc;

use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::Result;
use crate::contender::Load;
use crate::flags::Runtime;
use crate::round::{CycleBudget, Round, Samples, Stopwatch};

/// A worker that runs as a task.
pub(crate) trait Worker: Send + 'static {
    /// Runs one cycle and records it in `samples`.
    fn cycle(&mut self, samples: &mut Samples) -> impl Future<Output = Result<()>> + Send;
}

/// Runs a task for each worker of the load, on a new runtime.
pub(crate) fn run<W: Worker>(
    load: &Load,
    kind: Runtime,
    new_worker: impl AsyncFn(u32) -> Result<W>,
) -> Result<Round> {
    build_runtime(kind)?.block_on(async {
        let budget = Arc::new(CycleBudget::new(load.cycles));
        let ready = Arc::new(Barrier::new(load.workers as usize + 1));
        let mut workers = Vec::new();
        for index in 0..load.workers {
            workers.push(new_worker(index).await?);
        }
        let mut tasks = JoinSet::new();
        for worker in workers {
            tasks.spawn(run_worker(
                worker,
                load.warm_up(),
                ready.clone(),
                budget.clone(),
            ));
        }
        // The first wait ends when all workers are warm, and the second one starts them.
        ready.wait().await;
        let stopwatch = Stopwatch::start();
        ready.wait().await;
        let mut samples = Vec::new();
        while let Some(worker) = tasks.join_next().await {
            samples.push(worker??);
        }
        Ok(stopwatch.stop(&samples))
    })
}

/// Builds a tokio runtime.
pub(crate) fn build_runtime(kind: Runtime) -> Result<tokio::runtime::Runtime> {
    let mut builder = match kind {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Multi => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?)
}

/// Warms a worker up, and runs cycles until the budget is used up.
async fn run_worker(
    mut worker: impl Worker,
    warm_up: u32,
    ready: Arc<Barrier>,
    budget: Arc<CycleBudget>,
) -> Result<Samples> {
    let mut warm_up_result = Ok(());
    for _ in 0..warm_up {
        warm_up_result = worker.cycle(&mut Samples::default()).await;
        if warm_up_result.is_err() {
            break;
        }
    }
    ready.wait().await;
    ready.wait().await;
    warm_up_result?;
    let mut samples = Samples::default();
    while budget.take() {
        worker.cycle(&mut samples).await?;
    }
    Ok(samples)
}
