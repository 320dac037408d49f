//! The age at which kept connections are replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::WrappingConnector;
use crate::fixture::{Fixture, server};

// Without jitter, connections that were opened together are replaced together each time.
#[tokio::test(start_paused = true)]
async fn kept_connections_do_not_all_expire_together() {
    const COUNT: u32 = 64;
    let seconds = Duration::from_secs;
    let config = server().read_timeout(seconds(1000)).build();
    let fixture = Fixture::with_config(config).await;
    let opened = Arc::<AtomicU32>::default();
    let count = opened.clone();
    let connector = WrappingConnector::new(&fixture, move |stream| {
        count.fetch_add(1, Ordering::Relaxed);
        stream
    });
    let builder = fixture.server.client_builder().connector(connector);
    let client = builder
        .server_read_timeout(seconds(1000))
        .max_connection_age(seconds(100))
        .build()
        .unwrap();
    let pool = client.semaphore("pool", COUNT).unwrap();
    let began = Instant::now();
    // Uses all connections at once, and returns the number of connections opened so far.
    let use_all = async |at: Duration| {
        sleep_until(began + at).await;
        let mut held = Vec::new();
        for _ in 0..COUNT {
            held.push(pool.clone().acquire().await.unwrap());
            sleep(Duration::from_millis(1)).await;
        }
        for held in held {
            held.release().await.unwrap();
        }
        opened.load(Ordering::Relaxed)
    };
    assert_eq!(use_all(Duration::ZERO).await, COUNT);
    assert_eq!(use_all(seconds(89)).await, COUNT);
    let replaced = use_all(seconds(95)).await - COUNT;
    assert!(
        (COUNT / 8..COUNT - COUNT / 8).contains(&replaced),
        "{replaced}"
    );
    assert_eq!(use_all(seconds(101)).await, 2 * COUNT);
}
