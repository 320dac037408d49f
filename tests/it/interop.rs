//! Programs that nobody here wrote: the Python client of dflockd on our server, our locks on the Python server, and both clients
//! side by side. The Python halves are in `tests/interop/`.

mod client;
mod dflockd;
mod mixed;
mod program;
mod python;
mod shards;
mod tls;
mod worker;
