//! What must not happen.

use std::fmt;
use std::time::Duration;

use crate::evidence::Evidence;
use crate::fault::Kind;
use crate::key::KEYS;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// More believed to hold than may.
    Overlap,
    /// A loss was known later than it must be.
    Late,
    /// A slot was nobody's while somebody waited for it.
    Leak,
}

/// Something that must not happen and did.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) what: Wrong,
    /// The fault that may have led to it.
    pub(crate) fault: Option<Kind>,
    pub(crate) key: usize,
    pub(crate) at: Duration,
    pub(crate) length: Duration,
    /// Of a late loss.
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
            "{what:?} of {length:.1?} on {:?} at {at:.3?}, after: {fault}",
            KEYS[*key].name
        )?;
        evidence
            .as_ref()
            .map_or(Ok(()), |evidence| write!(f, "\n{evidence}"))
    }
}
