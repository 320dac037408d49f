//! TLS to the members.
