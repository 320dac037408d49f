//! TLS and an auth token.
//!
//! `cargo run --example tls_auth`, or with other servers:
//!
//! ```text
//! export DFLOCK_SERVERS=lock-1:6388 DFLOCK_TLS_CA=ca.pem DFLOCK_AUTH_TOKEN_FILE=token
//! cargo run --example tls_auth
//! ```

use std::process::ExitCode;

use dflock::server::{Server, ServerTls};
use dflock::{Client, Tls};
use dflock_examples::Outcome;

const AUTH_TOKEN: &str = "an example auth token";

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    if std::env::var_os("DFLOCK_SERVERS").is_some() {
        return work(Client::from_env()?, &describe_environment()).await;
    }

    // A self-signed certificate for this run. In production it is read from files.
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());

    let server = Server::builder()
        .auth_token(AUTH_TOKEN)
        .tls(ServerTls::pem(&certificate, &key)?)
        .build()
        .start()
        .await?;
    let address = format!("localhost:{}", server.addr().port());

    // Trusts only this certificate. `Tls::native_roots()?` trusts the system's root certificates.
    let client = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(&certificate)?)
        .auth(AUTH_TOKEN)
        .build()?;
    work(client, "over TLS, with an auth token").await?;

    println!("with another auth token:");
    let client = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(&certificate)?)
        .auth("another")
        .build()?;
    print_error(client).await;

    println!("with another certificate:");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?
        .cert
        .pem();
    let client = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(other)?)
        .auth(AUTH_TOKEN)
        .build()?;
    print_error(client).await;

    println!("without TLS:");
    let client = Client::builder()
        .servers([&address])
        .auth(AUTH_TOKEN)
        .build()?;
    print_error(client).await;
    Ok(())
}

/// Describes the connections of `Client::from_env`.
fn describe_environment() -> String {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let tls =
        is_set("DFLOCK_TLS_CA") || std::env::var("DFLOCK_TLS").is_ok_and(|tls| tls == "native");
    let token = is_set("DFLOCK_AUTH_TOKEN") || is_set("DFLOCK_AUTH_TOKEN_FILE");
    format!(
        "{} TLS, {} an auth token",
        if tls { "over" } else { "without" },
        if token { "with" } else { "without" }
    )
}

async fn work(client: Client, connected: &str) -> Outcome {
    let held = client.semaphore("vault", 1)?.acquire().await?;
    println!("held, {connected}: {:?}", held.token());
    held.release().await?;
    Ok(())
}

/// Prints the error of a request. No error contains the auth token.
async fn print_error(client: Client) {
    if let Err(error) = client.ping().await {
        println!("  {error}");
    }
}
