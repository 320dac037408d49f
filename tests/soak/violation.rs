//! Violations that the soak detects.

use std::fmt;
use std::time::Duration;

use crate::evidence::Evidence;
use crate::fault::Kind;
use crate::key::KEYS;

/// Kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// More holders than the limit.
    Overlap,
    /// A loss that was noticed too late.
    Late,
    /// A slot that was free while a client waited for it.
    Leak,
}

/// A violation, with its time and the fault before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) what: Wrong,
    /// The fault that may have caused it.
    pub(crate) fault: Option<Kind>,
    pub(crate) key: usize,
    pub(crate) at: Duration,
    pub(crate) length: Duration,
    /// Context of a late loss.
    pub(crate) evidence: Option<Evidence>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            fault,
            key,
            at,
            length,
            evidence,
        } = self;
        let fault = fault.map_or("no fault", Kind::name);
        write!(
            f,
            "{what:?} of {length:.1?} on {:?} at {at:.3?}, last fault: {fault}",
            KEYS[*key].name
        )?;
        evidence
            .as_ref()
            .map_or(Ok(()), |evidence| write!(f, "\n{evidence}"))
    }
}
