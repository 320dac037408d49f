//! What a test logs.

use std::fmt::{self, Write};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// The warnings and the spans of this thread, for as long as it is there.
pub(super) struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<&'static str>>>,
    _listening: DefaultGuard,
}

impl Log {
    pub(super) fn listen() -> Self {
        // with one listener only, a thread without any has a say in what is listened to
        static EVER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Listener::default()));
        LazyLock::force(&EVER);
        let (lines, spans) = (Arc::default(), Arc::default());
        let listener = Listener {
            lines: Arc::clone(&lines),
            spans: Arc::clone(&spans),
        };
        Self {
            lines,
            spans,
            _listening: set_default(listener),
        }
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The names of the spans that began, in their order.
    pub(super) fn spans(&self) -> Vec<&'static str> {
        self.spans.lock().unwrap().clone()
    }
}

#[derive(Default)]
struct Listener {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<&'static str>>>,
}

impl Subscriber for Listener {
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
        let mut line = Line(String::new());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
