//! What the tests of dflock share: the simulation, and the processes of `soak` and `measure`. The integration tests are in `it/`.

pub mod fleet;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a simulation that cannot go on has failed"
)]
pub mod sim;
