//! The integration tests of dflock, see `it/`; and what its programs share: `soak` and `measure`.

pub mod fleet;
