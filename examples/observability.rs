//! What dflock tells: spans and events on the terminal, and numbers as Prometheus reads them.
//!
//! `cargo run -p dflock-examples --features metrics --example observability`

use std::process::ExitCode;
use std::time::Duration;

use dflock::{Enqueued, Error};
use dflock_examples::Outcome;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::sleep;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

#[tokio::main]
async fn main() -> ExitCode {
    // before the first client, which describes the metrics
    let metrics = match PrometheusBuilder::new().install_recorder() {
        Ok(metrics) => metrics,
        Err(error) => return dflock_examples::finish(Err(error.into())),
    };
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .init();

    let outcome = run().await;
    // what a server of `/metrics` would answer
    println!("{}", metrics.render());
    dflock_examples::finish(outcome)
}

async fn run() -> Outcome {
    let (client, servers) = dflock_examples::connect(1).await?;
    let pool = client.semaphore("observed", 1)?;

    // held, renewed, given back
    let held = pool.clone().acquire().await?;
    held.renew().await?;
    let Enqueued::Queued(queued) = pool.clone().enqueue().await? else {
        return Err("somebody else holds `observed`".into());
    };
    sleep(Duration::from_millis(50)).await;
    held.release().await?;

    // waited for, and dropped
    drop(queued.wait().await?);

    // lost
    if let Some(server) = servers.first() {
        let work = async |_: &_| {
            server.faults().disconnect("observed");
            sleep(Duration::from_mins(1)).await;
        };
        let lost = pool.with_slot(work).await;
        assert!(lost.is_err_and(|error| error.is_lost()));
    }

    // waited for in vain
    let _taken = pool.clone().acquire().await?;
    let in_vain = pool.acquire_within(Duration::from_millis(20)).await;
    assert!(in_vain.is_err_and(|error: Error| error.is_timeout()));
    Ok(())
}
