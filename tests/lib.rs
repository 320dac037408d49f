//! The integration tests of dflock; see `it/`.
