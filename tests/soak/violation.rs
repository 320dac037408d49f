//! Violations that the soak detects.

use std::fmt;
use std::time::Duration;

use crate::etcd::record::Process;
use crate::fault::FaultKind;
use crate::key::KEYS;
use crate::late_loss::LateLoss;

/// Kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ViolationKind {
    /// More holders than the limit.
    Overlap,
    /// A loss that was noticed too late.
    Late,
    /// A slot that was free while a client waited for it, or taken without a holder.
    Leak,
    /// A slot that was lost although its client reached a majority of the members.
    LiveLoss,
    /// A slot that a client considered held, and whose entry the cluster did not list.
    Unlisted,
    /// A slot that an older entry got after a newer one.
    Order,
}

/// A violation, with its time and the fault before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) kind: ViolationKind,
    /// The fault that may have caused it.
    pub(crate) fault: Option<FaultKind>,
    pub(crate) key: usize,
    pub(crate) at: Duration,
    pub(crate) length: Duration,
    /// The process that the cluster listed without a hold, of a leak on etcd.
    pub(crate) process: Option<Process>,
    /// Context of a late loss.
    pub(crate) late_loss: Option<LateLoss>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            fault,
            key,
            at,
            length,
            process,
            late_loss,
        } = self;
        let fault = fault.map_or("no fault", FaultKind::name);
        write!(
            f,
            "{kind:?} of {length:.1?} on {:?} at {at:.3?}, last fault: {fault}",
            KEYS[*key].name
        )?;
        if let Some(Process { client, ended, .. }) = process {
            let state = if ended.is_some() { "killed" } else { "live" };
            write!(f, ", {state} process of client {client}")?;
        }
        late_loss
            .as_ref()
            .map_or(Ok(()), |late_loss| write!(f, "\n{late_loss}"))
    }
}
