//! Fuzz targets: properties that hold for any bytes.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test code, which is not part of a release"
)]

// A published package is tested without the feature `server`.
#[cfg(feature = "server")]
mod session;
#[cfg(feature = "server")]
mod target;

use crate::wire::Lines;
#[cfg(feature = "server")]
pub use target::{lines, reply, request, session, table};

/// Appends `bytes` to `lines` as socket reads would.
pub(crate) fn feed(lines: &mut Lines, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let room = lines.room();
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        lines.filled(count);
        bytes = &bytes[count..];
    }
}
