//! Interoperability with the Python client and the Python server of dflockd.
//!
//! The tests run the Python client on the embedded server, the Rust locks on the Python server, and
//! both clients side by side. The Python scripts are in `tests/interop/`.

mod client;
mod dflockd;
mod mixed;
mod program;
mod python;
mod shards;
mod tls;
mod worker;
