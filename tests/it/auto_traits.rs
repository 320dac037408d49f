//! Send and Sync of every public type, and Send of the future of every public async method.
//!
//! The compiler checks the tables: a wrong line does not compile.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use dflock::server::{Faults, MemoryConnector, Server, ServerConfig, ServerError, ServerTls};
use dflock::*;

use crate::scripted_server::{ACQUIRE, GRANT, OK, RELEASE, ScriptedServer, expect, send};

macro_rules! types {
    ($($type:ty: $($marker:ident)&+ $(& !$not:ident)*;)+) => {
        $(const _: fn() = || {
            fn is<T: ?Sized + Debug $(+ $marker)+ + 'static>() {}
            is::<$type>();
            $({
                // Ambiguous for a type that implements the excluded trait.
                trait Not<Marker> {
                    fn is() {}
                }
                struct Wrong;
                impl<T: ?Sized> Not<()> for T {}
                impl<T: ?Sized + $not> Not<Wrong> for T {}
                <$type as Not<_>>::is();
            })*
        };)+
    };
}

types! {
    Client: Send & Sync & Unpin & Clone;
    ClientBuilder: Send & Sync & Unpin;
    SemaphoreBuilder: Send & Sync & Unpin;
    Semaphore<Idle>: Send & Sync & Unpin & Clone;
    Semaphore<Queued>: Send & Sync & Unpin & !Clone;
    Semaphore<Held>: Send & Sync & Unpin & !Clone;
    SemaphoreBuilder<Exclusive>: Send & Sync & Unpin;
    Lock<Idle>: Send & Sync & Unpin & Clone;
    Lock<Queued>: Send & Sync & Unpin & !Clone;
    Lock<Held>: Send & Sync & Unpin & !Clone;
    Idle: Send & Sync & Unpin & Clone;
    Queued: Send & Sync & Unpin & !Clone;
    Held: Send & Sync & Unpin & !Clone;
    Leader: Send & Sync & Unpin & !Clone;
    Leadership: Send & Sync & Unpin & Clone;
    HeldAll: Send & Sync & Unpin & !Clone;
    HeldAll<Exclusive>: Send & Sync & Unpin & !Clone;
    Enqueued: Send & Sync & Unpin & !Clone;
    Enqueued<Exclusive>: Send & Sync & Unpin & !Clone;
    Error: Send & Sync & Unpin;
    ConfigError: Send & Sync & Unpin & Clone;
    Lost: Send & Sync & Unpin & Clone;
    LostReason: Send & Sync & Unpin & Copy;
    Token: Send & Sync & Unpin & Copy;
    ErrorContext: Send & Sync & Unpin & Clone;
    Operation: Send & Sync & Unpin & Copy;
    AddressErrorKind: Send & Sync & Unpin & Copy;
    AuthErrorKind: Send & Sync & Unpin & Copy;
    ConnectStage: Send & Sync & Unpin & Copy;
    AuthTokenErrorKind: Send & Sync & Unpin & Copy;
    TlsErrorKind: Send & Sync & Unpin & Copy;
    AuthTokenFileErrorKind: Send & Sync & Unpin & Clone;
    PemErrorKind: Send & Sync & Unpin & Clone;
    PemContent: Send & Sync & Unpin & Copy;
    PemSectionErrorKind: Send & Sync & Unpin & Copy;
    Tls: Send & Sync & Unpin & Clone;
    KeyErrorKind: Send & Sync & Unpin & Copy;
    Crc32: Send & Sync & Unpin & Copy;
    Clock: Send & Sync & Unpin & Clone;
    Stats: Send & Sync & Unpin & Clone;
    LockStats: Send & Sync & Unpin & Clone;
    SemaphoreStats: Send & Sync & Unpin & Clone;
    IdleStats: Send & Sync & Unpin & Clone;
    BoxStream: Send & Unpin & !Sync;
    Server: Send & Sync & Unpin & !Clone;
    ServerConfig: Send & Sync & Unpin & Clone;
    ServerError: Send & Sync & Unpin;
    MemoryConnector: Send & Sync & Unpin & Clone;
    ServerTls: Send & Sync & Unpin & Clone;
    Faults<'static>: Send & Sync & Unpin;
}

fn is_send<F: Future + Send>(_: F) {}

/// Compile-time check; never called.
#[allow(dead_code, reason = "the compiler reads it")]
fn every_future_is_send(client: Client, pool: &Semaphore, held: &Held, server: Server) {
    is_send(client.ping());
    is_send(client.stats());
    is_send(client.scope(async {}));
    is_send(pool.clone().acquire());
    is_send(pool.clone().try_acquire());
    is_send(pool.clone().acquire_within(Duration::ZERO));
    is_send(pool.clone().enqueue());
    is_send(pool.with_slot(async |_| ()));
    is_send(held.lost());
    is_send(held.renew());
    is_send(held.run(async {}));
    is_send(Server::start());
    is_send(server.shutdown());
}

#[allow(dead_code, reason = "the compiler reads it")]
fn every_future_that_takes_its_state_is_send(
    held: Semaphore<Held>,
    queued: [Semaphore<Queued>; 2],
    enqueued: Enqueued,
) {
    let [first, second] = queued;
    is_send(held.release());
    is_send(first.wait());
    is_send(second.wait_within(Duration::ZERO));
    is_send(enqueued.wait());
}

#[allow(dead_code, reason = "the compiler reads it")]
fn every_future_of_a_lock_is_send(
    lock: &Lock,
    (held, all): (Lock<Held>, HeldAll<Exclusive>),
    queued: [Lock<Queued>; 2],
    enqueued: Enqueued<Exclusive>,
) {
    let [first, second] = queued;
    is_send(lock.clone().acquire());
    is_send(lock.clone().try_acquire());
    is_send(lock.clone().acquire_within(Duration::ZERO));
    is_send(lock.clone().enqueue());
    is_send(lock.with_slot(async |_| ()));
    is_send(lock.lead(async |_: &Leader| ()));
    is_send(acquire_all([lock]));
    is_send(acquire_all_within([lock], Duration::ZERO));
    is_send(held.release());
    is_send(all.lost());
    is_send(all.run(async {}));
    is_send(all.release());
    is_send(first.wait());
    is_send(second.wait_within(Duration::ZERO));
    is_send(enqueued.wait());
}

/// Checks that a held semaphore and a held lock dereference to `Slot`, which can be shared.
#[allow(dead_code, reason = "the compiler reads it")]
fn held_values_deref_to_slot<'a>(
    semaphore: &'a Semaphore<Held>,
    lock: &'a Lock<Held>,
) -> [&'a Held; 2] {
    [semaphore, lock]
}

#[tokio::test(flavor = "multi_thread")]
async fn with_slot_future_is_send_with_moving_and_borrowing_closures() {
    let cycle = [expect(ACQUIRE), send(GRANT), expect(RELEASE), send(OK)];
    let scripted_server = ScriptedServer::tcp([vec![cycle; 2].concat()]).await;
    let pool = scripted_server.pool();
    let (by_value, by_reference) = (pool.clone(), pool);
    let text = String::from("mine");
    let length = tokio::spawn(async move {
        by_value
            .with_slot(async move |held| text.len() + held.key().len())
            .await
    });
    assert_eq!(length.await.unwrap().unwrap(), 8);
    let count = tokio::spawn(async move {
        let mut calls = 0;
        by_reference
            .with_slot(async |held| {
                // A task can move to another thread at this await.
                tokio::task::yield_now().await;
                calls += held.key().len();
            })
            .await
            .map(|()| calls)
    });
    assert_eq!(count.await.unwrap().unwrap(), 4);
    scripted_server.finish().await;
}
