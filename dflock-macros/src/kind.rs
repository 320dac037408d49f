//! The two attributes.

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Semaphore,
    Lock,
}

impl Kind {
    /// Its name, and that of the function that does the work.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Semaphore => "semaphore",
            Self::Lock => "lock",
        }
    }

    /// The type whose builder takes the options.
    pub(crate) fn built(self) -> &'static str {
        match self {
            Self::Semaphore => "Semaphore",
            Self::Lock => "Lock",
        }
    }

    /// What it needs, each with an example.
    pub(crate) fn required(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [("key", "key = \"report:{tenant}\""), ("limit", "limit = 3")]
            .into_iter()
            .filter(move |(name, _)| self.has(name))
    }

    /// The arguments that it knows.
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
