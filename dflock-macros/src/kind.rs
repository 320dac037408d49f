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

    /// Returns the required arguments, each with an example.
    pub(crate) fn required(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [("key", "key = \"report:{tenant}\""), ("limit", "limit = 3")]
            .into_iter()
            .filter(move |(name, _)| self.has(name))
    }

    /// Returns the names of all arguments.
    pub(crate) fn arguments(self) -> impl Iterator<Item = &'static str> {
        [
            "key",
            "limit",
            "client",
            "acquire_timeout",
            "lease_ttl",
            "renew_ratio",
            "on_lost",
            "slot",
            "crate",
        ]
        .into_iter()
        .filter(move |name| self.has(name))
    }

    fn has(self, argument: &str) -> bool {
        self == Self::Semaphore || argument != "limit"
    }
}
