//! Kinds of attributes.

/// The attribute that is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Semaphore,
    Lock,
}

impl Kind {
    /// Returns the name of the attribute.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Semaphore => "semaphore",
            Self::Lock => "lock",
        }
    }

    /// Returns the name of the type whose builder takes the options.
    pub(crate) fn builder_type(self) -> &'static str {
        match self {
            Self::Semaphore => "Semaphore",
            Self::Lock => "Lock",
        }
    }
}
