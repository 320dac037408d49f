//! Who may use a connection next.

use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, LostReason};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{Instant, sleep};

use crate::house::House;
use crate::peer::*;

// G25: a holding connection is nobody else's, and an idle one is anybody's
#[tokio::test]
async fn three_holds_are_three_connections_and_no_more_are_ever_made() {
    let hold = vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)];
    let peer = Peer::memory(vec![vec![hold; 4].concat(); 3]);
    let pool = peer.pool();
    for _ in 0..4 {
        let mut slots = Vec::new();
        for _ in 0..3 {
            slots.push(pool.clone().acquire().await.unwrap());
        }
        assert_eq!(peer.connections(), 3);
        for held in slots {
            held.release().await.unwrap();
        }
    }
    peer.finish().await;
}

// G26
#[tokio::test(start_paused = true)]
async fn one_hold_is_renewed_and_released_while_another_acquire_blocks() {
    let peer = Peer::memory([
        vec![
            hear(ACQUIRE),
            say(GRANT),
            hear(RENEW),
            say("ok 30\n"),
            hear(RELEASE),
            say(OK),
        ],
        vec![hear(ACQUIRE), tell(), cue(), say(GRANT)],
    ]);
    let pool = peer.pool();
    let first = pool.clone().acquire().await.unwrap();
    let second = tokio::spawn(pool.acquire());
    peer.told().await;
    first.renew().await.unwrap();
    first.release().await.unwrap();
    peer.cue();
    second.await.unwrap().unwrap().close();
    peer.finish().await;
}

// T10, N9, T33: it ended, or the peer spoke, while it was idle
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_stale_is_found_out() {
    let ends = [
        vec![close()],
        vec![half_close(), hear_end()],
        vec![say("error\n"), hear_end()],
        vec![say("ok"), hear_end()],
    ];
    for end in ends {
        let first = [
            vec![hear(PING), say(OK), hear(PING), say(OK), cue(), tell()],
            end,
        ]
        .concat();
        let peer = Peer::memory([
            first,
            vec![hear(ACQUIRE), say(GRANT), hear(RELEASE), say(OK)],
        ]);
        let client = peer.client();
        client.ping().await.unwrap();
        client.ping().await.unwrap();
        peer.cue();
        peer.told().await;
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        peer.finish().await;
    }
}

// T34: whether the end is seen before the request is sent or after
#[tokio::test]
async fn a_socket_that_ends_while_it_is_idle_is_replaced() {
    for end in [close(), reset()] {
        let peer = Peer::tcp([
            vec![hear(PING), say(OK), cue(), tell(), end],
            vec![hear(ACQUIRE), say(GRANT)],
        ])
        .await;
        let client = peer.client();
        client.ping().await.unwrap();
        peer.cue();
        peer.told().await;
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .close();
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_request_that_dies_with_an_idle_connection_is_tried_again_once() {
    for end in [close(), reset()] {
        let first = vec![hear(PING), say(OK), hear(ACQUIRE), end.clone()];
        let peer = Peer::tcp([first.clone(), vec![hear(ACQUIRE), say(GRANT)]]).await;
        let client = peer.client();
        client.ping().await.unwrap();
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .close();
        peer.finish().await;

        // a third connection would be no part of the script
        let peer = Peer::tcp([first, vec![hear(ACQUIRE), end]]).await;
        let client = peer.client();
        client.ping().await.unwrap();
        let error = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
        peer.finish().await;
    }
}

#[tokio::test]
async fn a_request_that_dies_with_a_new_connection_is_not_tried_again() {
    let peer = Peer::memory([vec![hear(ACQUIRE), close()]]);
    let error = peer.pool().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    peer.finish().await;
}

// the second try is told no more than what is left of the wait
#[tokio::test(start_paused = true)]
async fn a_second_try_waits_for_what_is_left() {
    let first = vec![hear(PING), say(OK), hear(ACQUIRE), tell(), cue(), close()];
    let peer = Peer::memory([first, vec![hear("sl\npool\n6 1\n"), say("timeout\n")]]);
    let client = peer.client();
    client.ping().await.unwrap();
    let acquire = tokio::spawn(client.semaphore("pool", 1).unwrap().acquire());
    peer.told().await;
    sleep(Duration::from_secs(4)).await;
    peer.cue();
    assert!(acquire.await.unwrap().unwrap_err().is_timeout());
    peer.finish().await;
}

// the clock of the leases goes on while that of the timers is turned
#[tokio::test(start_paused = true)]
async fn each_request_has_its_time_however_fast_timers_go() {
    let server = Server::start().await.unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    for _ in 0..3 {
        pool.clone()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        sleep(Duration::from_secs(7)).await;
    }
}

// 0.75 of 23 s: the server is about to close it
#[tokio::test(start_paused = true)]
async fn a_connection_is_not_used_again_after_three_quarters_of_the_read_timeout() {
    let peer = Peer::memory([
        vec![hear(PING), say(OK), hear(PING), say(OK), hear_end()],
        vec![hear(PING), say(OK)],
    ]);
    let client = peer.client();
    client.ping().await.unwrap();
    sleep(Duration::from_millis(17_200)).await;
    client.ping().await.unwrap();
    sleep(Duration::from_millis(17_250)).await;
    client.ping().await.unwrap();
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_at_its_age_however_often_it_is_used() {
    let peer = Peer::memory([
        vec![
            hear(PING),
            say(OK),
            hear(PING),
            say(OK),
            hear(PING),
            say(OK),
            hear_end(),
            tell(),
        ],
        vec![hear(PING), say(OK)],
    ]);
    let client = peer
        .builder()
        .max_connection_age(Duration::from_secs(10))
        .build()
        .unwrap();
    let began = Instant::now();
    for _ in 0..3 {
        client.ping().await.unwrap();
        sleep(Duration::from_secs(4)).await;
    }
    // it was closed when it was 10 s old, not when it was used next
    peer.told().await;
    assert_eq!((peer.connections(), began.elapsed().as_secs()), (1, 12));
    client.ping().await.unwrap();
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_holds_is_not_closed_for_its_age() {
    let house = House::new().await;
    let client = house
        .server
        .client_builder()
        .connector(house.server.connector());
    let client = client
        .max_connection_age(Duration::from_secs(1))
        .build()
        .unwrap();
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    sleep(Duration::from_secs(100)).await;
    held.check().unwrap();
    assert_eq!(house.server.stats().connections, 1);
    held.release().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(house.server.stats().connections, 0);
}

// whether or not the client is ever used again
#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_is_closed() {
    let ping = vec![hear(PING), say(OK), hear_end(), tell()];
    let peer = Peer::memory([ping.clone(), ping]);
    let client = peer.client();
    let tasks = Handle::current().metrics().num_alive_tasks();
    for _ in 0..2 {
        client.ping().await.unwrap();
        let began = Instant::now();
        peer.told().await;
        assert_eq!(began.elapsed().as_secs(), 17);
    }
    assert_eq!(Handle::current().metrics().num_alive_tasks(), tasks);
    peer.finish().await;
}

// a server of before v1.14 does not know the question, and may close after it
#[tokio::test(start_paused = true)]
async fn any_answer_to_a_ping_will_do() {
    let peer = Peer::memory([
        vec![hear(PING), say("error\n"), hear_end()],
        vec![hear(PING), say("error\n"), close()],
    ]);
    let client = peer.client();
    client.ping().await.unwrap();
    client.ping().await.unwrap();
    peer.finish().await;
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

// a socket lives and dies with the runtime that made it
#[test]
fn a_client_goes_from_one_runtime_to_the_next() {
    let stage = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let again = vec![
        hear(PING),
        say(OK),
        hear(ACQUIRE),
        say(GRANT),
        hear(RELEASE),
        say(OK),
        hear(PING),
        say(OK),
    ];
    let twice = [again.clone(), vec![hear(PING), say(OK)]].concat();
    let peer = stage.block_on(Peer::tcp([twice, again.clone(), again]));
    let client = peer.client();
    let round = async |client: &dflock::Client| {
        client.ping().await.unwrap();
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap()
            .release()
            .await
            .unwrap();
        client.ping().await.unwrap();
    };
    let (first, second) = (runtime(), runtime());
    first.block_on(round(&client));
    second.block_on(round(&client));
    // each finds its own again
    first.block_on(client.ping()).unwrap();
    drop((first, second));
    runtime().block_on(round(&client));
    stage.block_on(peer.finish());
}

// the server's word that there was no slot in time is as good a sign of life as any
#[tokio::test(start_paused = true)]
async fn a_connection_on_which_a_long_wait_was_in_vain_is_used_again() {
    let house = House::new().await;
    let pool = house.client.semaphore("pool", 1).unwrap();
    let _held = pool.clone().acquire().await.unwrap();
    assert!(
        pool.acquire_within(Duration::from_secs(18))
            .await
            .unwrap_err()
            .is_timeout()
    );
    // what is too old to be used is closed
    sleep(Duration::from_millis(5)).await;
    assert_eq!(house.server.stats().connections, 2);
}

/// A client with `count` kept connections on which nothing is answered any more, and a peer that
/// expects one more connection with `then`.
async fn kept(count: usize, silent: &str, then: Script) -> (Peer, dflock::Client) {
    let idle = vec![
        hear("sl\npool\n10 20\n"),
        say(GRANT),
        hear(RELEASE),
        say(OK),
    ];
    let mut scripts = vec![[idle.clone(), vec![hear_end()]].concat(); count - 1];
    // the one that was released last is used first
    scripts.push([idle, vec![hear(silent), hear_end()]].concat());
    scripts.push(then);
    let peer = Peer::memory(scripts);
    let client = peer.client();
    let pool = client.semaphore("pool", 20).unwrap();
    let mut slots = Vec::new();
    for _ in 0..count {
        slots.push(pool.clone().acquire().await.unwrap());
    }
    for held in slots {
        held.release().await.unwrap();
    }
    sleep(Duration::from_secs(1)).await;
    (peer, client)
}

// a NAT that forgot all of them, or a virtual IP that moved
#[tokio::test(start_paused = true)]
async fn kept_connections_that_died_without_a_word_cost_one_failure() {
    let works = vec![hear(PING), say(OK)];
    // a limit for the reply, and a wait that is cut off here
    for (request, wait) in [("sl\npool\n3 1\n", 3000), ("sl\npool\n1 1\n", 300)] {
        let (peer, client) = kept(10, request, works.clone()).await;
        let pool = client.semaphore("pool", 1).unwrap();
        pool.acquire_within(Duration::from_millis(wait))
            .await
            .unwrap_err();
        client.ping().await.unwrap();
        peer.finish().await;
    }
    let (peer, client) = kept(10, PING, works).await;
    assert!(matches!(
        client.ping().await.unwrap_err(),
        Error::Unresponsive { .. }
    ));
    client.ping().await.unwrap();
    peer.finish().await;
}

#[tokio::test(start_paused = true)]
async fn kept_connections_are_dropped_when_a_holder_finds_silence() {
    let granted = vec![hear(ACQUIRE), say(GRANT)];
    let works = vec![hear(PING), say(OK)];
    for how in ["release", "renewal"] {
        let silent = if how == "release" {
            vec![hear(RELEASE), hear_end()]
        } else {
            vec![hear(RENEW), hear(RELEASE), hear_end()]
        };
        let peer = Peer::memory([
            [granted.clone(), silent].concat(),
            vec![hear(PING), say(OK), hear_end()],
            works.clone(),
        ]);
        let client = peer
            .builder()
            .heartbeat(Duration::from_secs(2))
            .build()
            .unwrap();
        let held = client
            .semaphore("pool", 1)
            .unwrap()
            .acquire()
            .await
            .unwrap();
        client.ping().await.unwrap();
        if how == "release" {
            assert!(matches!(
                held.release().await.unwrap_err(),
                Error::Unresponsive { .. }
            ));
        } else {
            assert_eq!(held.lost().await.reason, LostReason::Unreachable);
        }
        client.ping().await.unwrap();
        peer.finish().await;
    }
}

// what was used while the silent request was under way is not as dead as that
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_used_since_is_kept() {
    let second = Duration::from_secs(1);
    let peer = Peer::memory([
        vec![
            hear(PING),
            say(OK),
            hear("sl\npool\n3 1\n"),
            tell(),
            hear_end(),
        ],
        vec![hear(PING), say(OK), hear(PING), say(OK)],
    ]);
    let client = peer.client();
    client.ping().await.unwrap();
    let waiter = tokio::spawn(
        client
            .semaphore("pool", 1)
            .unwrap()
            .acquire_within(3 * second),
    );
    peer.told().await;
    sleep(second).await;
    client.ping().await.unwrap();
    waiter.await.unwrap().unwrap_err();
    client.ping().await.unwrap();
    peer.finish().await;
}
