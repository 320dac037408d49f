//! The simulation: real clients, the embedded server and a bad network on a paused clock. One seed decides everything.

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
