//! Embedded server at the level of the wire protocol.

mod faults;
mod limits;
mod queue;
mod raw;
mod requests;
mod shutdown;
