//! Simulation of real clients, the embedded server and an unreliable network on a paused clock. One
//! seed determines a whole run.

mod actor;
mod cancellation;
mod checker;
mod clock;
mod endpoint;
mod fault_injector;
mod history;
mod intervals;
mod link;
mod net;
mod pipe;
mod plan;
mod resource;
mod rng;
mod run;
mod seeds;
mod server;
mod tracked_body;
mod tracked_hold;

pub use run::{Outcome, run};
pub use seeds::{Summary, run_seeds};
