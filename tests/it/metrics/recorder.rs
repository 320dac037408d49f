//! Metrics recorder of one thread.

use std::collections::BTreeMap;

use metrics::LocalRecorderGuard;
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// Recorder of the metrics that this thread emits while the value lives.
pub(super) struct Recorder {
    recorder: &'static DebuggingRecorder,
    _guard: LocalRecorderGuard<'static>,
}

/// Values recorded since the previous snapshot, by metric name and labels. The `server` label is
/// left out.
pub(super) struct Snapshot(BTreeMap<String, Vec<f64>>);

impl Recorder {
    pub(super) fn new() -> Self {
        let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
        Self {
            recorder,
            _guard: metrics::set_default_local_recorder(recorder),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let all = self
            .recorder
            .snapshotter()
            .snapshot()
            .into_vec()
            .into_iter();
        let snapshot = all.map(|(key, unit, described, value)| {
            let (_, key) = key.into_parts();
            assert!(
                described.is_some_and(|text| !text.is_empty()),
                "{key} is not described"
            );
            assert_eq!(unit.is_some(), key.name().ends_with("_seconds"), "{key}");
            assert!(
                key.labels().any(|label| label.key() == "server"),
                "{key} has no label `server`"
            );
            assert!(
                key.labels().all(|label| label.key() != "key"),
                "{key} has a label of unbounded cardinality"
            );
            let others = key
                .labels()
                .filter(|label| label.key() != "server")
                .map(metrics::Label::value);
            let name = std::iter::once(key.name())
                .chain(others)
                .collect::<Vec<_>>()
                .join(" ");
            let values = match value {
                DebugValue::Counter(count) => vec![f64::from(u32::try_from(count).unwrap())],
                DebugValue::Gauge(change) => vec![change.0],
                DebugValue::Histogram(samples) => {
                    samples.into_iter().map(|sample| sample.0).collect()
                }
            };
            (name, values)
        });
        Snapshot(snapshot.collect())
    }
}

impl Snapshot {
    /// Returns all values of `name`, rounded.
    pub(super) fn values(&self, name: &str) -> Vec<f64> {
        self.0.get(name).map_or_else(Vec::new, |values| {
            values.iter().map(|value| value.round()).collect()
        })
    }

    /// Returns the changes of the gauges of waiters and holders.
    pub(super) fn gauge_changes(&self) -> (f64, f64) {
        let change = |name| self.values(name).first().copied().unwrap_or_default();
        (change("dflock_waiting"), change("dflock_holding"))
    }

    /// Returns the number of lost slots over all reasons.
    pub(super) fn losses(&self) -> f64 {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with("dflock_lost_total "))
            .flat_map(|(_, counts)| counts)
            .sum()
    }

    /// Returns the samples of waits and holds as `outcome: seconds`.
    pub(super) fn outcomes(&self) -> Vec<String> {
        let seconds = |name: &String| {
            name.strip_prefix("dflock_")
                .map(|name| name.replace("_seconds", ""))
        };
        let of = |name: &String| {
            self.values(name)
                .into_iter()
                .map(move |value| value.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let ended = self
            .0
            .keys()
            .filter(|name| name.starts_with("dflock_wait_") || name.starts_with("dflock_hold_"));
        ended
            .filter(|name| !self.0[*name].is_empty())
            .filter_map(|name| Some(format!("{}: {}", seconds(name)?, of(name))))
            .collect()
    }
}
