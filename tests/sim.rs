//! Simulation of real clients, the embedded server and an unreliable network on a paused clock. One
//! seed determines a whole run.

mod actor;
mod body;
mod chaos;
mod clock;
mod cut;
mod dice;
mod end;
mod history;
mod holding;
mod link;
mod net;
mod pipe;
mod plan;
mod pool;
mod run;
mod search;
mod shard;
mod verdict;

pub use run::{Outcome, run};
pub use search::{Findings, search};
