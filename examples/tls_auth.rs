//! TLS to the servers, and a secret that they ask for.
//!
//! `cargo run --example tls_auth`, or with servers of your own:
//! `DFLOCK_SERVERS=lock-1:6388 DFLOCK_TLS_CA=ca.pem DFLOCK_AUTH_TOKEN_FILE=secret cargo run --example tls_auth`

use std::process::ExitCode;

use dflock::server::{Server, ServerTls};
use dflock::{Client, Tls};
use dflock_examples::Outcome;

const SECRET: &str = "an example of a secret";

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    if std::env::var_os("DFLOCK_SERVERS").is_some() {
        return work(Client::from_env()?, &from_environment()).await;
    }

    // a certificate for this run alone; yours comes from your authority, in files
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (own.cert.pem(), own.signing_key.serialize_pem());

    let server = Server::builder()
        .auth_token(SECRET)
        .tls(ServerTls::pem(&certificate, &key)?)
        .build()
        .start()
        .await?;
    let address = format!("localhost:{}", server.addr().port());

    // trusts this certificate and no other; `Tls::native_roots()?` trusts whom the system trusts
    let client = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(&certificate)?)
        .auth(SECRET)
        .build()?;
    work(client, "over TLS, with a secret").await?;

    println!("with another secret:");
    let wrong = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(&certificate)?)
        .auth("another")
        .build()?;
    explain(wrong).await;

    println!("with another certificate:");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()])?
        .cert
        .pem();
    let wrong = Client::builder()
        .servers([&address])
        .tls(Tls::ca_pem(other)?)
        .auth(SECRET)
        .build()?;
    explain(wrong).await;

    println!("without TLS:");
    let wrong = Client::builder().servers([&address]).auth(SECRET).build()?;
    explain(wrong).await;
    Ok(())
}

/// Says what the environment sets for the connections of `Client::from_env`.
fn from_environment() -> String {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let tls =
        is_set("DFLOCK_TLS_CA") || std::env::var("DFLOCK_TLS").is_ok_and(|tls| tls == "native");
    let secret = is_set("DFLOCK_AUTH_TOKEN") || is_set("DFLOCK_AUTH_TOKEN_FILE");
    format!(
        "{} TLS, {} a secret",
        if tls { "over" } else { "without" },
        if secret { "with" } else { "without" }
    )
}

async fn work(client: Client, connected: &str) -> Outcome {
    let held = client.semaphore("vault", 1)?.acquire().await?;
    println!("held, {connected}: {:?}", held.token());
    held.release().await?;
    Ok(())
}

/// Says why this cannot work; the secret is in no message.
async fn explain(wrong: Client) {
    if let Err(error) = wrong.ping().await {
        println!("  {error}");
    }
}
