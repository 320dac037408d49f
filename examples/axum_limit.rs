//! Web service that limits an expensive route across all of its processes.
//!
//! At most two reports of a tenant are made at once. `cargo run --example axum_limit` starts the
//! service twice and sends requests to both. With `-- --listen 127.0.0.1:8080` it serves until it
//! is stopped.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::get;
use clap::Parser;
use dflock::tower::{BoxError, SlotLayer};
use dflock::{Client, Error, Semaphore};
use dflock_examples::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::ServiceBuilder;

#[derive(Parser)]
struct Options {
    /// Address to serve on, until stopped
    #[arg(long)]
    listen: Option<String>,
}

/// Returns the service. Only its route `/report/…` is limited.
fn app(client: Client) -> Router {
    let slot = SlotLayer::new(move |request: &Request| {
        let key = request.uri().path().replace('/', ":");
        Semaphore::builder()
            .key(key)
            .limit(2)
            .acquire_timeout(Duration::from_secs(1))
            .client(client.clone())
            .build()
    });
    let limit = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(error_response))
        .layer(slot);
    let report = get(async || tokio::time::sleep(Duration::from_millis(400)).await);
    Router::new()
        .route("/report/{tenant}", report.layer(limit))
        .route("/health", get("ok"))
}

/// Maps an error of the layer to a response.
async fn error_response(error: BoxError) -> (StatusCode, String) {
    match error.downcast_ref::<Error>() {
        Some(error) if error.is_timeout() => (
            StatusCode::TOO_MANY_REQUESTS,
            "too many reports, try again".to_owned(),
        ),
        _ => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run(Options::parse()).await)
}

async fn run(options: Options) -> Outcome {
    let (client, _server) = dflock_examples::connect(1).await?;
    if let Some(address) = options.listen {
        return Ok(axum::serve(TcpListener::bind(address).await?, app(client)).await?);
    }
    let (mut services, mut requests) = (JoinSet::new(), JoinSet::new());
    for process in 1..=2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        services.spawn(axum::serve(listener, app(client.clone())).into_future());
        for path in [
            "/health",
            "/report/acme",
            "/report/acme",
            "/report/acme",
            "/report/acme",
            "/report/bolt",
        ] {
            requests.spawn(async move {
                let began = Instant::now();
                let mut stream = TcpStream::connect(address).await?;
                stream
                    .write_all(
                        format!(
                            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
                        )
                        .as_bytes(),
                    )
                    .await?;
                let mut response = String::new();
                stream.read_to_string(&mut response).await?;
                let status = response.lines().next().unwrap_or_default();
                println!(
                    "process {process}: {path}: {status} after {} ms",
                    began.elapsed().as_millis()
                );
                Ok::<_, std::io::Error>(())
            });
        }
    }
    requests
        .join_all()
        .await
        .into_iter()
        .collect::<Result<(), _>>()
        .map_err(Into::into)
}
