//! Servers that cannot be reached, or go away before they have answered.

use std::error::Error as _;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dflock::{Client, Clock, ConnectFuture, ConnectStage, Connector, Error, Operation};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

use super::reads_well;
use crate::peer::*;

// T06, T14, P27
#[tokio::test]
async fn nobody_listens_and_then_somebody_does() {
    // bound, so that the port is ours; not listening, so that connections are refused
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let pool = Client::builder()
        .servers([address.as_str()])
        .build()
        .unwrap()
        .semaphore("pool", 1)
        .unwrap();

    let error = pool.clone().acquire().await.unwrap_err();
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error:?}"
    );
    assert!(error.is_retryable() && error.source().is_some());
    assert_eq!(
        (error.key(), error.server(), error.operation()),
        (
            Some("pool"),
            Some(address.as_str()),
            Some(Operation::Acquire)
        )
    );
    reads_well(&error, &["acquire", "\"pool\"", &address, "`servers`"]);

    let peer = Peer::on(
        socket.listen(8).unwrap(),
        [vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)]],
    );
    pool.acquire().await.unwrap().release().await.unwrap();
    peer.finish().await;
}

/// A network that swallows everything.
struct Blackhole;

impl Connector for Blackhole {
    fn connect<'a>(&'a self, _server: &'a str) -> ConnectFuture<'a> {
        Box::pin(pending())
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// P08, G15
#[tokio::test(start_paused = true)]
async fn connecting_ends_with_the_connect_timeout() {
    let limit = Duration::from_millis(1300);
    let client = Client::builder()
        .connector(Blackhole)
        .connect_timeout(limit)
        .build()
        .unwrap();
    let began = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { .. }), "{error:?}");
    // tokio's timers count in whole milliseconds
    assert!(
        began.elapsed() >= limit && began.elapsed() <= limit + Duration::from_millis(1),
        "{:?}",
        began.elapsed()
    );
    assert!(error.is_retryable() && !error.is_timeout());
    reads_well(
        &error,
        &[
            "acquire",
            "\"pool\"",
            "127.0.0.1:6388",
            "1.3s",
            "`connect_timeout`",
        ],
    );
}

// T10
#[tokio::test]
async fn a_connection_that_ends_before_its_reply_is_an_error_at_once() {
    for (sent, end) in [
        ("", close()),
        ("ok 00000000", close()),
        ("", half_close()),
        ("ok 00000000", half_close()),
    ] {
        let peer = Peer::tcp([vec![hear(ACQUIRE), say(sent), end]]).await;
        let error = peer.pool().acquire().await.unwrap_err();
        let Error::Disconnected { source, .. } = &error else {
            panic!("{sent:?}: {error:?}")
        };
        // what came of the reply is shown
        let shown = source
            .as_ref()
            .is_some_and(|source| source.to_string().contains(sent));
        assert_eq!(
            (source.is_some(), shown),
            (!sent.is_empty(), !sent.is_empty()),
            "{sent:?}: {error:?}"
        );
        assert!(error.is_retryable());
        reads_well(
            &error,
            &["acquire", "\"pool\"", peer.address(), "before the answer"],
        );
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_reset_is_an_error_that_keeps_its_cause() {
    let peer = Peer::tcp([vec![hear(ACQUIRE), reset()]]).await;
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(
        matches!(&error, Error::Disconnected { source: Some(source), .. } if source.kind() == std::io::ErrorKind::ConnectionReset)
    );
    assert!(error.source().is_some());
    reads_well(&error, &["acquire", "\"pool\"", peer.address()]);
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_unresponsive_when_its_time_is_over() {
    let peer = Peer::memory([
        vec![hear(ACQUIRE), hear_end()],
        vec![hear(PING), hear_end()],
    ]);
    let began = Instant::now();
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    // ten seconds in line, and one to say so
    assert_eq!(began.elapsed().as_secs(), 11);
    reads_well(
        &error,
        &[
            "acquire",
            "\"pool\"",
            peer.address(),
            "11s",
            "`socket_timeout`",
        ],
    );
    let error = peer.client().ping().await.unwrap_err();
    reads_well(
        &error,
        &["ping on", peer.address(), "5s", "`socket_timeout`"],
    );
    assert_eq!(error.key(), None);
    peer.finish().await;
}

/// A network that swallows all connections but the first `open`.
struct OpensOnly {
    peer: BoxConnector,
    open: AtomicUsize,
}

type BoxConnector = Box<dyn Connector>;

/// Asserts that the call of `wait` ended when it was over, and at most `grace` later.
fn assert_over(began: Instant, wait: Duration, grace: Duration) {
    let took = began.elapsed();
    // tokio's timers count in whole milliseconds
    assert!(
        took >= wait && took <= wait + grace + Duration::from_millis(2),
        "{took:?} for {wait:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_in_its_time_where_nothing_can_be_reached() {
    let client = Client::builder().connector(Blackhole).build().unwrap();
    let pool = client.semaphore("pool", 1).unwrap();
    for millis in [1, 100, 1000, 1500, 3000] {
        let (began, wait) = (Instant::now(), Duration::from_millis(millis));
        let error = pool.clone().acquire_within(wait).await.unwrap_err();
        let Error::ConnectTimeout {
            limit,
            stage: ConnectStage::Reach,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*limit, wait);
        assert_over(began, wait, Duration::ZERO);
        assert!(error.is_retryable() && !error.is_timeout());
        reads_well(
            &error,
            &["acquire", "`connect_timeout`", "`acquire_timeout`"],
        );
    }
    // a longer wait does not make `connect_timeout` longer, and no wait does not make it shorter
    for wait in [Duration::ZERO, Duration::from_secs(20)] {
        let began = Instant::now();
        assert!(matches!(
            pool.clone().acquire_within(wait).await.unwrap_err(),
            Error::ConnectTimeout { .. }
        ));
        assert_over(began, Duration::from_secs(5), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_in_its_time_where_nothing_is_answered() {
    let second = Duration::from_secs(1);
    for (millis, grace) in [
        (100, Duration::ZERO),
        (1000, second),
        (1500, Duration::ZERO),
        (3000, second),
    ] {
        let wait = Duration::from_millis(millis);
        let request = format!("sl\npool\n{} 1\n", millis.div_ceil(1000));
        let peer = Peer::memory([vec![hear(request), hear_end()]]);
        let began = Instant::now();
        let error = peer.pool().acquire_within(wait).await.unwrap_err();
        // of a wait of whole seconds the server owes the end
        let is_owed = matches!(error, Error::Unresponsive { limit, .. } if limit == wait + grace);
        assert!(
            if grace.is_zero() {
                error.is_timeout()
            } else {
                is_owed
            },
            "{error:?}"
        );
        assert_over(began, wait + grace, Duration::ZERO);
        peer.finish().await;
    }
    // less grace than a second, where less is enough for an answer
    let peer = Peer::memory([vec![hear("sl\npool\n1 1\n"), hear_end()]]);
    let client = peer
        .builder()
        .socket_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let began = Instant::now();
    assert!(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(second)
            .await
            .is_err()
    );
    assert_over(began, Duration::from_millis(1300), Duration::ZERO);
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_over_in_its_time_where_the_secret_is_not_answered() {
    for millis in [100, 1000, 1500] {
        let wait = Duration::from_millis(millis);
        let peer = Peer::memory([vec![hear(AUTH), hear_end()]]);
        let client = peer.builder().auth("hush").build().unwrap();
        let began = Instant::now();
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(wait)
            .await
            .unwrap_err();
        let Error::Unresponsive { context, limit } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((context.operation, *limit), (Operation::Auth, wait));
        assert_over(began, wait, Duration::ZERO);
        assert!(error.is_retryable() && !error.is_timeout());
        reads_well(&error, &["auth", "`socket_timeout`", "`acquire_timeout`"]);
        peer.finish().await;
    }
}

impl Connector for OpensOnly {
    fn connect<'a>(&'a self, server: &'a str) -> ConnectFuture<'a> {
        let opens = self
            .open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if opens.is_ok() {
            self.peer.connect(server)
        } else {
            Blackhole.connect(server)
        }
    }

    fn clock(&self) -> Clock {
        Clock::Tokio
    }
}

// and so it is when the first connection takes a part of it
#[tokio::test(start_paused = true)]
async fn the_second_try_of_a_wait_has_what_is_left_to_connect() {
    let millis = Duration::from_millis;
    for (wait, request, limit) in [
        (millis(1000), "sl\npool\n1 1\n", millis(920)),
        (millis(2500), "sl\npool\n3 1\n", millis(2420)),
    ] {
        let peer = Peer::memory([vec![
            hear(PING),
            say(OK),
            hear(request),
            tell(),
            cue(),
            close(),
        ]]);
        let connector = OpensOnly {
            peer: peer.connector(),
            open: AtomicUsize::new(1),
        };
        let client = Client::builder().connector(connector).build().unwrap();
        client.ping().await.unwrap();
        let began = Instant::now();
        let waiter = tokio::spawn(client.semaphore("pool", 1).unwrap().acquire_within(wait));
        peer.told().await;
        sleep(millis(80)).await;
        peer.cue();
        let error = waiter.await.unwrap().unwrap_err();
        assert!(
            matches!(&error, Error::ConnectTimeout { limit: it, .. } if it.abs_diff(limit) < millis(2)),
            "{error:?}"
        );
        assert_over(began, wait, Duration::ZERO);
        peer.finish().await;
    }
}

// one second try, that has a secret to show
#[tokio::test(start_paused = true)]
async fn a_try_without_a_wait_has_the_limits_of_the_client() {
    let seconds = Duration::from_secs;
    let peer = Peer::memory([
        vec![
            hear(AUTH),
            say(OK),
            hear(PING),
            say(OK),
            hear(TRY_ACQUIRE),
            tell(),
            cue(),
            close(),
        ],
        vec![
            hear(AUTH),
            tell(),
            cue(),
            say(OK),
            hear(TRY_ACQUIRE),
            hear_end(),
        ],
    ]);
    let client = peer
        .builder()
        .auth("hush")
        .connect_timeout(seconds(2))
        .socket_timeout(seconds(3))
        .build()
        .unwrap();
    client.ping().await.unwrap();
    let began = Instant::now();
    let waiter = tokio::spawn(client.semaphore("pool", 1).unwrap().try_acquire());
    for _ in 0..2 {
        peer.told().await;
        sleep(seconds(2)).await;
        peer.cue();
    }
    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_over(began, seconds(5), Duration::ZERO);
    peer.finish().await;
}
