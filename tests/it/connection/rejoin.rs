//! A waiter whose connection ends joins the queue again, for as long as its wait lasts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dflock::server::Server;
use dflock::{BoxStream, Client, Clock, ConnectFuture, Connector, Error, Semaphore};
use tokio::io::duplex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::house::House;
use crate::peer::*;

const SECOND: Duration = Duration::from_secs(1);

/// An acquire of the script's key that waits in the queue for `wait` seconds.
fn acquire(wait: u64) -> String {
    format!("sl\npool\n{wait} 1\n")
}

#[tokio::test(start_paused = true)]
async fn a_place_whose_connection_ends_is_taken_again() {
    for end in [vec![close()], vec![half_close(), hear_end()]] {
        let first = [vec![hear(acquire(20)), tell(), cue()], end].concat();
        // what is left of the wait, in whole seconds
        let second = vec![hear(acquire(18)), say(GRANT), hear(RELEASE), say(OK)];
        let peer = Peer::memory([first, second]);
        let waiter = tokio::spawn(peer.pool().acquire_within(20 * SECOND));
        peer.told().await;
        sleep(2 * SECOND).await;
        peer.cue();
        waiter.await.unwrap().unwrap().release().await.unwrap();
        peer.finish().await;
    }
}

// the request itself went out on a connection that was kept
#[tokio::test(start_paused = true)]
async fn a_place_on_a_kept_connection_is_taken_again() {
    let first = vec![
        hear(PING),
        say(OK),
        hear(acquire(20)),
        tell(),
        cue(),
        close(),
    ];
    let peer = Peer::memory([first, vec![hear(acquire(18)), say("timeout\n")]]);
    let client = peer.client();
    client.ping().await.unwrap();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(20 * SECOND),
    );
    peer.told().await;
    sleep(2 * SECOND).await;
    peer.cue();
    assert!(waiter.await.unwrap().unwrap_err().is_timeout());
    peer.finish().await;
}

#[tokio::test]
async fn a_place_whose_connection_is_reset_is_taken_again() {
    let peer = Peer::tcp([
        vec![hear(acquire(20)), tell(), cue(), reset()],
        vec![hear(acquire(20)), say(GRANT), hear(RELEASE), say(OK)],
    ])
    .await;
    let waiter = tokio::spawn(peer.pool().acquire_within(20 * SECOND));
    peer.told().await;
    sleep(Duration::from_millis(300)).await;
    peer.cue();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    peer.finish().await;
}

// a proxy that closes silent connections
#[tokio::test(start_paused = true)]
async fn a_wait_lasts_whatever_number_of_places_it_takes() {
    let place = |wait| vec![hear(acquire(wait)), tell(), cue(), close()];
    let held = vec![hear(acquire(12)), say(GRANT), hear(RELEASE), say(OK)];
    let peer = Peer::memory([place(20), place(18), place(16), place(14), held]);
    let pool = Semaphore::builder()
        .key("pool")
        .limit(1)
        .acquire_timeout(20 * SECOND);
    let pool = pool.client(peer.client()).build().unwrap();
    let body = tokio::spawn(pool.with_slot(async |held| held.key().len()));
    for _ in 0..4 {
        peer.told().await;
        sleep(2 * SECOND).await;
        peer.cue();
    }
    assert_eq!(body.await.unwrap().unwrap(), 4);
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_is_a_timeout_though_places_were_lost() {
    let end = || vec![tell(), cue(), close()];
    let peer = Peer::memory([
        [vec![hear(acquire(3))], end()].concat(),
        [vec![hear(acquire(2))], end()].concat(),
        vec![hear(acquire(1)), hear_end()],
    ]);
    let began = Instant::now();
    let waiter = tokio::spawn(peer.pool().acquire_within(Duration::from_millis(2900)));
    for _ in 0..2 {
        peer.told().await;
        sleep(SECOND).await;
        peer.cue();
    }
    let error = waiter.await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Timeout { waited, .. } if waited == Duration::from_millis(2900)),
        "{error:?}"
    );
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(2900) && took < Duration::from_millis(2910),
        "{took:?}"
    );
    peer.finish().await;
}

/// Lets the first connection in, whose other end is ended by `end`, and refuses all others.
#[derive(Clone, Default)]
struct GoesAway {
    tried: Arc<AtomicUsize>,
    end: Arc<AtomicBool>,
}

impl Connector for GoesAway {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(async {
            if self.tried.fetch_add(1, Ordering::SeqCst) > 0 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = duplex(1024);
            let end = self.end.clone();
            tokio::spawn(async move {
                while !end.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                drop(theirs);
            });
            Ok(Box::new(ours) as BoxStream)
        })
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// and what kept it from a slot is told
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_come_back_is_an_error_when_the_wait_is_over() {
    let connector = GoesAway::default();
    let client = Client::builder()
        .connector(connector.clone())
        .build()
        .unwrap();
    let began = Instant::now();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(10 * SECOND),
    );
    sleep(SECOND).await;
    connector.end.store(true, Ordering::SeqCst);
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.is_retryable() && !error.is_timeout());
    let took = began.elapsed();
    assert!(took > 9 * SECOND && took <= 10 * SECOND, "{took:?}");
    // at most a second apart, and not without a pause
    let tried = connector.tried.load(Ordering::SeqCst);
    assert!((9..40).contains(&tried), "{tried}");
}

// v1.10.0 says `error` to all in its queues
#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_in_order_is_waited_for() {
    for farewell in ["error_draining\n", "error\n"] {
        let peer = Peer::memory([
            vec![hear(acquire(20)), tell(), cue(), say(farewell), hear_end()],
            vec![hear(acquire(15)), say("error_draining\n"), hear_end()],
            vec![hear(acquire(15)), say(GRANT), hear(RELEASE), say(OK)],
        ]);
        let waiter = tokio::spawn(peer.pool().acquire_within(20 * SECOND));
        peer.told().await;
        sleep(5 * SECOND).await;
        peer.cue();
        waiter.await.unwrap().unwrap().release().await.unwrap();
        peer.finish().await;
    }
}

// another attempt would have the same answer
#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_wait() {
    let peer = Peer::memory([
        vec![hear(acquire(20)), tell(), cue(), close()],
        vec![hear(acquire(15)), say("error_max_waiters\n")],
    ]);
    let waiter = tokio::spawn(peer.pool().acquire_within(20 * SECOND));
    peer.told().await;
    sleep(5 * SECOND).await;
    peer.cue();
    assert!(waiter.await.unwrap().unwrap_err().is_too_many_waiters());
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn waiters_do_not_come_back_in_the_same_moment() {
    let house = House::new().await;
    let lock = house.client.lock("pool").unwrap();
    let held = lock.clone().acquire().await.unwrap();
    let mut waiters = JoinSet::new();
    for _ in 0..40 {
        waiters.spawn(lock.clone().acquire_within(20 * SECOND));
    }
    sleep(SECOND).await;
    house.server.faults().disconnect_all();
    assert!(held.is_lost() || held.lost().await.key.contains("pool"));
    let queued = || {
        house
            .server
            .stats()
            .locks
            .iter()
            .map(|lock| lock.waiters + 1)
            .sum::<u64>()
    };
    let mut seen = vec![queued()];
    for _ in 0..110 {
        sleep(Duration::from_millis(1)).await;
        seen.push(queued());
    }
    assert_eq!((seen[0], seen[110]), (0, 40));
    seen.dedup();
    assert!(seen.len() > 20, "{seen:?}");
}

async fn server_at(addr: &str) -> Server {
    let deadline = Instant::now() + 10 * SECOND;
    loop {
        match Server::builder().bind(addr).build().start().await {
            Ok(server) => return server,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

// over sockets: connections are refused until it is back
#[tokio::test]
async fn a_server_that_starts_again_is_found_again() {
    let server = Server::start().await.unwrap();
    let addr: SocketAddr = server.addr();
    let lock = server.client().lock("job").unwrap();
    let held = lock.clone().acquire().await.unwrap();
    let waiter = tokio::spawn(lock.acquire_within(20 * SECOND));
    sleep(Duration::from_millis(500)).await;
    drop(server);
    held.lost().await;
    sleep(Duration::from_millis(300)).await;
    let server = server_at(&addr.to_string()).await;
    let held = timeout(10 * SECOND, waiter)
        .await
        .expect("it does not come back")
        .unwrap()
        .unwrap();
    assert_eq!(server.stats().locks.len(), 1);
    held.release().await.unwrap();
}

// there is no sign that it stood in any queue: as before, the caller is told at once
#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_at_once_is_no_place_that_was_lost() {
    let peer = Peer::memory([vec![hear(acquire(20)), tell(), cue(), close()]]);
    let waiter = tokio::spawn(peer.pool().acquire_within(20 * SECOND));
    peer.told().await;
    sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    peer.cue();
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_millis(5));
    peer.finish().await;
}
