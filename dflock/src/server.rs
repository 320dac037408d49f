//! A dflockd-compatible server in the same process.
