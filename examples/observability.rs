//! Telemetry of dflock: spans and events on the terminal, and metrics in the format of Prometheus.
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
    // Installed before the first client, because that client registers the metrics.
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
    // An HTTP server would return this text for `/metrics`.
    println!("{}", metrics.render());
    dflock_examples::finish(outcome)
}

async fn run() -> Outcome {
    let (client, servers) = dflock_examples::connect(1).await?;
    let pool = client.semaphore("observed", 1)?;

    // A slot that is renewed and released.
    let held = pool.clone().acquire().await?;
    held.renew().await?;
    let Enqueued::Queued(queued) = pool.clone().enqueue().await? else {
        return Err("`observed` has another holder".into());
    };
    sleep(Duration::from_millis(50)).await;
    held.release().await?;

    // A slot that is dropped after a wait.
    drop(queued.wait().await?);

    // A slot that is lost.
    if let Some(server) = servers.first() {
        let work = async |_: &_| {
            server.faults().disconnect("observed");
            sleep(Duration::from_mins(1)).await;
        };
        let lost = pool.with_slot(work).await;
        assert!(lost.is_err_and(|error| error.is_lost()));
    }

    // A wait that times out.
    let _taken = pool.clone().acquire().await?;
    let result = pool.acquire_within(Duration::from_millis(20)).await;
    assert!(result.is_err_and(|error: Error| error.is_timeout()));
    Ok(())
}
