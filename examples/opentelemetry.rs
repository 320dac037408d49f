//! Spans and metrics of dflock for an OpenTelemetry collector.
//!
//! `cargo run -p dflock-examples --features metrics --example opentelemetry` exports to a collector
//! in this process, and fails if something is missing there. With the exporters of
//! `opentelemetry-otlp` in place of those in memory, the same program exports to a collector in the
//! network.

use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use dflock_examples::Outcome;
use metrics_opentelemetry::{OpenTelemetryMetrics, OpenTelemetryRecorder};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::metrics::data::{
    AggregatedMetrics, MetricData, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tokio::time::sleep;
use tracing::{Instrument, info_span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Upper bounds of the buckets of a histogram, in seconds. The default bounds of OpenTelemetry, from
/// 5 up, are for milliseconds: nearly all waits would be in the first bucket.
const BOUNDS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];
const HISTOGRAMS: [&str; 3] = [
    "dflock_wait_seconds",
    "dflock_hold_seconds",
    "dflock_renewal_margin_seconds",
];

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    // The default processor of spans and the reader of metrics have a thread each, which exports.
    let (spans, metrics) = (
        InMemorySpanExporter::default(),
        InMemoryMetricExporter::default(),
    );
    let tracer = SdkTracerProvider::builder()
        .with_batch_exporter(spans.clone())
        .build();
    let meter = SdkMeterProvider::builder()
        .with_reader(PeriodicReader::builder(metrics.clone()).build())
        .build();

    // Installed before the first client, because that client registers the metrics.
    let mut recorder = OpenTelemetryRecorder::new(OpenTelemetryMetrics::new(meter.meter("dflock")));
    recorder.set_histogram_bounds_mut(HISTOGRAMS.into_iter(), &BOUNDS);
    metrics::set_global_recorder(recorder)?;
    tracing_subscriber::registry()
        .with(LevelFilter::DEBUG)
        .with(tracing_opentelemetry::layer().with_tracer(tracer.tracer("example")))
        .try_init()?;

    let lost = work(&meter).instrument(info_span!("request")).await?;

    tracer.force_flush()?;
    meter.force_flush()?;
    let (spans, exports) = (spans.get_finished_spans()?, metrics.get_finished_metrics()?);
    let [during, after] = &exports[..] else {
        return Err(format!("{} exports of metrics instead of 2", exports.len()).into());
    };
    for span in &spans {
        println!("{}", describe_span(span, &spans));
    }
    for (name, attributes, value) in points(after) {
        println!("metric {name}{{{attributes}}} {value}");
    }
    check_spans(&spans)?;
    for (moment, metrics, name, expected) in [
        ("with two slots", during, "dflock_holding", 2.0),
        ("at the end", after, "dflock_holding", 0.0),
        ("at the end", after, "dflock_wait_seconds", 3.0),
        ("at the end", after, "dflock_hold_seconds", 3.0),
        ("at the end", after, "dflock_renewals_total", 1.0),
        ("at the end", after, "dflock_lost_total", f64::from(lost)),
    ] {
        let exported: f64 = points(metrics)
            .filter(|(metric, ..)| *metric == name)
            .fold(0.0, |sum, (.., value)| sum + value);
        if (exported - expected).abs() > f64::EPSILON {
            return Err(format!("{name} is {exported} {moment} instead of {expected}").into());
        }
    }
    tracer.shutdown()?;
    meter.shutdown()?;
    Ok(())
}

/// Runs a body with a slot, and then holds two slots. Returns the number of slots that are lost.
async fn work(meter: &SdkMeterProvider) -> Result<u32, Box<dyn Error + Send + Sync>> {
    let (client, servers) = dflock_examples::connect(1).await?;
    let pool = client.semaphore("traced", 2)?;
    let body = async |_: &_| sleep(Duration::from_millis(5)).await;
    pool.with_slot(body).await?;

    let (first, second) = (pool.clone().acquire().await?, pool.acquire().await?);
    first.renew().await?;
    // The reader exports each minute, and here while two slots are held.
    meter.force_flush()?;
    second.release().await?;
    let lost = if let Some(server) = servers.first() {
        server.faults().disconnect("traced");
        first.lost().await;
        drop(first);
        1
    } else {
        first.release().await?;
        0
    };
    // Waits for the end of the holds, and so for that of their spans.
    client.close().await;
    Ok(lost)
}

/// Checks that the spans are in one trace, apart from the holds that may outlive the request.
fn check_spans(spans: &[SpanData]) -> Outcome {
    let named = |name: &'static str| spans.iter().filter(move |span| span.name == name);
    let request = named("request").next().ok_or("no span `request`")?;
    let is_child = |span: &SpanData| span.parent_span_id == request.span_context.span_id();
    let follows_acquire = |span: &SpanData| {
        named("acquire").any(|acquire| {
            let context = &acquire.span_context;
            span.links.iter().any(|link| link.span_context == *context)
        })
    };
    let (acquires, holds) = (named("acquire").count(), named("hold").count());
    if (acquires, holds) != (3, 3) {
        return Err(format!("{acquires} spans `acquire` and {holds} `hold` instead of 3").into());
    }
    if !named("acquire").all(is_child) || !named("hold").all(follows_acquire) {
        return Err("an `acquire` is not in the request, or a `hold` has no `acquire`".into());
    }
    if named("hold").filter(|hold| is_child(hold)).count() != 1 {
        return Err("the hold of `with_slot` is not in the request, or another one is".into());
    }
    Ok(())
}

/// Returns the name, the parent, the links and the outcome of a span.
fn describe_span(span: &SpanData, spans: &[SpanData]) -> String {
    let name = |id| {
        let with_id = |other: &&SpanData| other.span_context.span_id() == id;
        spans.iter().find(with_id).map(|span| span.name.as_ref())
    };
    let mut text = format!("span {}", span.name);
    if let Some(parent) = name(span.parent_span_id) {
        _ = write!(text, ", in {parent}");
    }
    for link in span.links.iter() {
        _ = write!(
            text,
            ", after {}",
            name(link.span_context.span_id()).unwrap_or("?")
        );
    }
    for attribute in &span.attributes {
        if matches!(attribute.key.as_str(), "key" | "held" | "wait" | "outcome") {
            _ = write!(text, ", {}: {}", attribute.key, attribute.value);
        }
    }
    text
}

/// Returns the name, the attributes and the value of each data point. The value of a histogram is its
/// count.
#[allow(clippy::cast_precision_loss, reason = "the counts are small")]
fn points(metrics: &ResourceMetrics) -> impl Iterator<Item = (&str, String, f64)> {
    let metrics = metrics.scope_metrics().flat_map(ScopeMetrics::metrics);
    metrics.flat_map(|metric| {
        let points: Vec<(String, f64)> = match metric.data() {
            AggregatedMetrics::F64(MetricData::Gauge(gauge)) => gauge
                .data_points()
                .map(|point| (describe(point.attributes()), point.value()))
                .collect(),
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => histogram
                .data_points()
                .map(|point| (describe(point.attributes()), point.count() as f64))
                .collect(),
            AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                .data_points()
                .map(|point| (describe(point.attributes()), point.value() as f64))
                .collect(),
            _ => Vec::new(),
        };
        let named = move |(attributes, value)| (metric.name(), attributes, value);
        points.into_iter().map(named)
    })
}

fn describe<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let attributes: Vec<String> = attributes
        .map(|attribute| format!("{}={}", attribute.key, attribute.value))
        .collect();
    attributes.join(",")
}
