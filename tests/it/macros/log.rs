//! Recorder for the log of a test.

use std::fmt::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Records the warnings and spans of the current thread until it is dropped.
pub(super) struct Log {
    warnings: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<&'static str>>>,
    _subscriber: DefaultGuard,
}

impl Log {
    /// Starts the recording.
    pub(super) fn start() -> Self {
        // A second subscriber. With only one, `tracing` asks the subscriber of the current thread
        // which events are enabled, and a thread without one would disable them for all threads.
        static OTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Recorder::default()));
        LazyLock::force(&OTHER);
        let (warnings, spans) = (Arc::default(), Arc::default());
        let recorder = Recorder {
            warnings: Arc::clone(&warnings),
            spans: Arc::clone(&spans),
        };
        Self {
            warnings,
            spans,
            _subscriber: set_default(recorder),
        }
    }

    /// Returns the warnings in order.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap().clone()
    }

    /// Returns the names of the spans in the order of their creation.
    pub(super) fn spans(&self) -> Vec<&'static str> {
        self.spans.lock().unwrap().clone()
    }
}

#[derive(Default)]
struct Recorder {
    warnings: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<&'static str>>>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() || *metadata.level() <= Level::WARN
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.spans.lock().unwrap().push(span.metadata().name());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.warnings.lock().unwrap().push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Text of the fields of an event.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
