//! Functions of the client that the program `dflock` shares.
//!
//! Not part of the public API: they change without notice.

pub use crate::client::{env_variables, is_local};
