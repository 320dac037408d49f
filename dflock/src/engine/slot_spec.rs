//! The slot that a semaphore asks for, and the server on which it lives.

use std::sync::Arc;

use crate::error::{ErrorContext, Operation};
use crate::telemetry::Labels;
use crate::wire::{KeyBuf, Kind, LeaseSeconds, Primitive};

/// The slot that a semaphore asks for.
#[derive(Clone, Debug)]
pub(crate) struct SlotSpec {
    pub(crate) key: KeyBuf,
    pub(crate) primitive: Primitive,
    /// The lease to request. `None` is the server's default.
    pub(crate) lease: Option<LeaseSeconds>,
    pub(crate) server: ServerId,
}

/// The server on which a key lives.
#[derive(Clone, Debug)]
pub(crate) struct ServerId {
    pub(crate) index: usize,
    /// Its address, `host:port`, or the name of its cluster.
    pub(crate) name: Arc<str>,
}

impl SlotSpec {
    pub(crate) fn kind(&self) -> Kind {
        self.primitive.kind()
    }

    pub(crate) fn labels(&self) -> Labels<'_> {
        Labels {
            key: self.key.as_str(),
            server: &self.server.name,
        }
    }

    /// Returns the context of an error. It clones names that all threads share, so it is called for
    /// an error only.
    pub(crate) fn context(&self, operation: Operation) -> ErrorContext {
        let key = Some(self.key.as_shared().clone());
        ErrorContext {
            operation,
            key,
            server: self.server.name.clone(),
        }
    }
}
