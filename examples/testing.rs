//! How to test code that holds slots: in memory, on a clock that stands still, with every fault on demand.
//!
//! `cargo run --example testing`. In your crate each of these is a `#[tokio::test(start_paused = true)]`; switch on the feature `server`
//! of dflock and `test-util` of tokio under `[dev-dependencies]`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, Error, Semaphore};
use tokio::time::{Instant, sleep};

/// The code under test: an hour of work under a slot.
async fn nightly(pool: &Semaphore) -> Result<&'static str, Error> {
    pool.with_slot(async |_held| sleep(Duration::from_hours(1)).await)
        .await?;
    Ok("done")
}

/// A server and a client without a socket between them: on a paused clock, time goes on only when all wait for it.
async fn server() -> (Server, Client) {
    let server = Server::start().await.unwrap();
    let client = server
        .client_builder()
        .connector(server.connector())
        .build()
        .unwrap();
    (server, client)
}

async fn an_hour_passes_in_no_time_and_the_lease_is_kept() {
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

async fn the_second_waits_for_its_turn_in_vain() {
    let (server, client) = server().await;
    let pool = client.semaphore("nightly", 1).unwrap();
    let _held = pool.clone().acquire().await.unwrap();
    assert!(nightly(&pool).await.unwrap_err().is_timeout());
    assert_eq!(server.stats().semaphores[0].waiters, 0);
}

async fn work_stops_when_its_lease_is_ended() {
    stops(|server| assert!(server.faults().expire("nightly"))).await;
}

async fn work_stops_when_its_connection_is_cut() {
    stops(|server| server.faults().disconnect("nightly")).await;
}

async fn work_stops_when_the_server_is_frozen() {
    stops(|server| server.faults().freeze()).await;
}

async fn stops(fault: impl Fn(&Server)) {
    let (server, client) = server().await;
    let pool = client.semaphore("nightly", 1).unwrap();
    let trouble = async {
        sleep(Duration::from_mins(10)).await;
        fault(&server);
    };
    let (outcome, ()) = tokio::join!(nightly(&pool), trouble);
    assert!(outcome.unwrap_err().is_lost());
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let began = std::time::Instant::now();
    an_hour_passes_in_no_time_and_the_lease_is_kept().await;
    the_second_waits_for_its_turn_in_vain().await;
    work_stops_when_its_lease_is_ended().await;
    work_stops_when_its_connection_is_cut().await;
    work_stops_when_the_server_is_frozen().await;
    println!("5 tests passed, in {:?}", began.elapsed());
}
