//! TLS: who is believed and who is refused, and that what holds on a plain connection holds on one that is not.

pub(crate) mod authority;
mod bare_key;
mod bundle;
mod certificate;
mod content;
mod environment;
pub(crate) mod folder;
mod handshake;
mod hold;
mod identity;
mod pem;
mod resumption;
mod rotation;
mod secret;
mod server;
