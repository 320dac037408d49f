//! TLS: who is believed and who is refused, and that what holds on a plain connection holds on one that is not.

pub(crate) mod authority;
mod certificate;
mod environment;
pub(crate) mod folder;
mod handshake;
mod hold;
mod identity;
mod pem;
mod resumption;
mod secret;
mod server;
