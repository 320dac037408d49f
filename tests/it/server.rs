//! The embedded server as a client hears it: bytes in, bytes out.

mod faults;
mod limits;
mod line;
mod raw;
mod requests;
mod stopping;
