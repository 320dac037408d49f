//! The age at which kept connections are closed.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::house::{House, server};

// connections that were opened together would be opened together again for ever
#[tokio::test(start_paused = true)]
async fn kept_connections_do_not_all_expire_together() {
    const COUNT: u32 = 64;
    let seconds = Duration::from_secs;
    let config = server().read_timeout(seconds(1000)).build();
    let house = House::with(config).await;
    let builder = house.server.client_builder();
    let client = builder
        .connector(house.server.connector())
        .server_read_timeout(seconds(1000))
        .max_connection_age(seconds(100))
        .build()
        .unwrap();
    let pool = client.semaphore("pool", COUNT).unwrap();
    let began = Instant::now();
    let mut held = Vec::new();
    for _ in 0..COUNT {
        held.push(pool.clone().acquire().await.unwrap());
        sleep(Duration::from_micros(1)).await;
    }
    let opened = began.elapsed();
    for held in held {
        held.release().await.unwrap();
    }
    let connections = async |at: Duration| {
        sleep_until(began + at).await;
        house.server.stats().connections
    };
    assert_eq!(connections(seconds(90)).await, u64::from(COUNT));
    let left = [
        connections(seconds(93)).await,
        connections(seconds(96)).await,
        connections(seconds(99)).await,
    ];
    assert!(left.is_sorted_by(|a, b| a > b), "{left:?}");
    assert!((1..u64::from(COUNT)).contains(&left[1]), "{left:?}");
    assert_eq!(connections(seconds(100) + 2 * opened).await, 0);
}
