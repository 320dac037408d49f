//! Recording subscriber for the current thread.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Identity, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Records an event when it occurs, and a span with all its fields when it is closed.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: HashMap<u64, String>,
    lines: Vec<String>,
    links: Vec<(&'static str, &'static str)>,
}

/// Formats the fields of a span or event, with times rounded to seconds.
pub(crate) struct Fields<'a>(pub(crate) &'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            // The port and the token differ in each run.
            "server" | "token" => write!(self.0, " {}", field.name()),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "token" {
            assert_eq!(value.len(), 16, "half of the token");
        }
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record_debug(field, &format_args!("{}", value.round()));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let parent = context
            .span(id)
            .and_then(|span| Some(span.parent()?.name()));
        let mut line = format!(
            "{}{}",
            parent.map(|name| format!("{name}:")).unwrap_or_default(),
            attributes.metadata().name()
        );
        attributes.record(&mut Fields(&mut line));
        self.0.lock().unwrap().open.insert(id.into_u64(), line);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut recorder = self.0.lock().unwrap();
        values.record(&mut Fields(recorder.open.get_mut(&id.into_u64()).unwrap()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let span = context
            .event_span(event)
            .map(|span| format!("{}: ", span.name()));
        let mut line = format!("{}{}", span.unwrap_or_default(), event.metadata().level());
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().lines.push(line);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| {
            context
                .span(id)
                .expect("a link is made while both spans are open")
                .name()
        };
        self.0.lock().unwrap().links.push((name(id), name(follows)));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let mut recorder = self.0.lock().unwrap();
        let line = recorder.open.remove(&id.into_u64()).unwrap();
        recorder.lines.push(line);
    }
}

impl Recorder {
    pub(crate) fn start() -> (Self, DefaultGuard) {
        Self::start_with(Identity::new())
    }

    /// Starts recording, together with the layer `other`.
    pub(crate) fn start_with(other: impl Layer<Registry> + Send + Sync) -> (Self, DefaultGuard) {
        // A registry that enables everything for the lifetime of the process.
        static ALWAYS_ENABLED: LazyLock<Dispatch> =
            LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
        LazyLock::force(&ALWAYS_ENABLED);
        let recorder = Self::default();
        let enabled = tracing_subscriber::filter::filter_fn(|of| {
            of.target() == "dflock" || of.target() == "spans"
        });
        let registry = tracing_subscriber::registry()
            .with(other.and_then(recorder.clone()).with_filter(enabled));
        let guard = tracing::subscriber::set_default(registry);
        (recorder, guard)
    }

    /// Returns the lines that were recorded since the last call.
    pub(crate) async fn lines(&self) -> Vec<String> {
        // Keep-alive tasks emit their last events meanwhile.
        sleep(Duration::from_millis(1)).await;
        std::mem::take(&mut self.0.lock().unwrap().lines)
    }

    /// Returns the recorded links as pairs of span names: the following span, and the span that it
    /// follows.
    pub(crate) fn links(&self) -> Vec<(&'static str, &'static str)> {
        std::mem::take(&mut self.0.lock().unwrap().links)
    }
}
