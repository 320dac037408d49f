//! The timeline of a run, with the holders that the cluster listed and the processes of the clients.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::interval::Interval;
use crate::timeline::{SharedTimeline, Timeline};

/// The holders of a key that the cluster listed between `from` and `to`.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) key: usize,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// Tokens and process ids, in the order of the grants.
    pub(crate) holders: Vec<(String, u32)>,
}

/// A process of a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) client: usize,
    /// Time at which it was killed.
    pub(crate) ended: Option<Duration>,
}

/// What the tasks of a run record together.
#[derive(Clone, Default)]
pub(crate) struct SharedRecord {
    pub(crate) timeline: SharedTimeline,
    samples: Arc<Mutex<Vec<Sample>>>,
    processes: Arc<Mutex<Vec<Process>>>,
    elections: Arc<Mutex<Vec<Interval>>>,
}

/// What was recorded.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) timeline: Timeline,
    pub(crate) samples: Vec<Sample>,
    pub(crate) processes: Vec<Process>,
    /// Times in which a leader was elected.
    pub(crate) elections: Vec<Interval>,
}

impl SharedRecord {
    pub(crate) fn add_sample(&self, sample: Sample) {
        lock(&self.samples).push(sample);
    }

    pub(crate) fn add_process(&self, pid: u32, client: usize) {
        lock(&self.processes).push(Process {
            pid,
            client,
            ended: None,
        });
    }

    /// Records that a process was killed at `ended`.
    pub(crate) fn end_process(&self, pid: u32, ended: Duration) {
        for process in lock(&self.processes).iter_mut() {
            if process.pid == pid {
                process.ended = Some(ended);
            }
        }
    }

    pub(crate) fn add_election(&self, interval: Interval) {
        lock(&self.elections).push(interval);
    }

    pub(crate) fn into_record(self) -> Record {
        Record {
            timeline: std::mem::take(&mut *self.timeline.lock()),
            samples: std::mem::take(&mut *lock(&self.samples)),
            processes: std::mem::take(&mut *lock(&self.processes)),
            elections: std::mem::take(&mut *lock(&self.elections)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
