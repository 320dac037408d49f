//! The attribute macros of [dflock](https://docs.rs/dflock), for use through that crate only.
