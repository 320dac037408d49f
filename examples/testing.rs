//! Tests of code that holds slots, with an in-memory server, a paused clock and injected faults.
//!
//! `cargo run --example testing`. In your crate, make each function a
//! `#[tokio::test(start_paused = true)]`. Enable the feature `server` of dflock and `test-util` of
//! tokio under `[dev-dependencies]`.
#![allow(clippy::unwrap_used, reason = "a failed `unwrap` fails the test")]

use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Error, Semaphore};
use tokio::time::{Instant, sleep};

/// The code under test: an hour of work with a slot.
async fn nightly(pool: &Semaphore) -> Result<&'static str, Error> {
    pool.with_slot(async |_held| sleep(Duration::from_hours(1)).await)
        .await?;
    Ok("done")
}

/// Returns a server, and a client that is connected to it without a socket.
///
/// A socket would wake tasks at times that the paused clock does not know.
async fn server() -> (Server, Client) {
    let server = Server::start().await.unwrap();
    let client = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    (server, client)
}

async fn the_lease_is_kept_for_an_hour() {
    let (_server, client) = server().await;
    let began = Instant::now();
    assert_eq!(
        nightly(&client.semaphore("nightly", 1).unwrap())
            .await
            .unwrap(),
        "done"
    );
    assert_eq!(began.elapsed().as_secs(), 3600);
}

async fn the_second_acquire_times_out_and_leaves_the_queue() {
    let (server, client) = server().await;
    let pool = client.semaphore("nightly", 1).unwrap();
    let _held = pool.clone().acquire().await.unwrap();
    assert!(nightly(&pool).await.unwrap_err().is_timeout());
    assert_eq!(server.stats().semaphores[0].waiters, 0);
}

async fn work_stops_when_its_lease_expires() {
    assert_stops(|server| assert!(server.faults().expire("nightly"))).await;
}

async fn work_stops_when_its_connection_closes() {
    assert_stops(|server| server.faults().disconnect("nightly")).await;
}

async fn work_stops_when_the_server_is_frozen() {
    assert_stops(|server| server.faults().freeze()).await;
}

/// Asserts that the work stops after a fault.
async fn assert_stops(inject: impl Fn(&Server)) {
    let (server, client) = server().await;
    let pool = client.semaphore("nightly", 1).unwrap();
    let fault = async {
        sleep(Duration::from_mins(10)).await;
        inject(&server);
    };
    let (result, ()) = tokio::join!(nightly(&pool), fault);
    assert!(result.unwrap_err().is_lost());
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let began = std::time::Instant::now();
    the_lease_is_kept_for_an_hour().await;
    the_second_acquire_times_out_and_leaves_the_queue().await;
    work_stops_when_its_lease_expires().await;
    work_stops_when_its_connection_closes().await;
    work_stops_when_the_server_is_frozen().await;
    println!("5 tests passed, in {:?}", began.elapsed());
}
