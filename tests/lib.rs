//! Code that the tests of dflock share: the simulation, and the harness of `soak` and `measure`.
//! The integration tests are in `it/`.

#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "a cluster that does not start fails the test"
)]
#[path = "../dflock/src/etcd_cluster.rs"]
pub mod etcd_cluster;
pub mod harness;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "an unexpected error fails the simulation"
)]
pub mod sim;
#[allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a report that cannot be written fails the test"
)]
#[path = "../dflock/src/skipped.rs"]
mod skipped;

pub use skipped::skip;
