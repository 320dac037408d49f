//! TLS: certificate verification, and the guarantees of plain connections over TLS.

mod auth_token;
mod bare_key;
mod client_certificate;
mod environment;
mod handshake;
mod hold;
mod pem;
mod pem_bundle;
mod redaction;
mod resumption;
mod rotation;
mod server;
mod server_certificate;
pub(crate) mod temp_dir;
pub(crate) mod test_ca;
