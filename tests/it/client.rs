//! Server addresses, sharding of keys, and selection of the default client.

use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dflock::server::Server;
use dflock::{Client, ConfigError, Connector, Crc32, Enqueued, Error, Semaphore, Sharding};

use crate::fixture::{Fixture, cycle};

async fn start_three_servers() -> [Server; 3] {
    [
        Server::start().await.unwrap(),
        Server::start().await.unwrap(),
        Server::start().await.unwrap(),
    ]
}

fn addresses(servers: &[Server]) -> Vec<String> {
    servers
        .iter()
        .map(|server| server.addr().to_string())
        .collect()
}

// Covers bug G27. Everything built on a client uses the server that the client selects.
#[tokio::test]
async fn a_key_is_assigned_to_a_server_by_its_hash() {
    let servers = start_three_servers().await;
    let client = Client::builder()
        .servers(addresses(&servers))
        .build()
        .unwrap();
    let mut holds = Vec::new();
    for key in ["worker-pool", "a", "b", "键☃", "clé-à-molette", "123456789"] {
        holds.push(client.semaphore(key, 2).unwrap().acquire().await.unwrap());
        let here = &servers[Crc32.shard(key, 3)];
        assert!(
            here.stats().semaphores.iter().any(|s| s.key == key),
            "{key}"
        );
    }
    let all: usize = servers
        .iter()
        .map(|server| server.stats().semaphores.len())
        .sum();
    assert_eq!(all, holds.len());
    let stats = client.stats().await.unwrap();
    assert_eq!(stats.len(), 3);
    for (listed, server) in stats.iter().zip(&servers) {
        assert_eq!(listed.semaphores.len(), server.stats().semaphores.len());
    }
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_user_defined_sharding_function_is_called() {
    let servers = start_three_servers().await;
    let client = Client::builder()
        .servers(addresses(&servers))
        .sharding(|key: &str, servers: usize| key.len() % servers)
        .build()
        .unwrap();
    let held = client
        .semaphore("four", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    assert_eq!(servers[1].stats().semaphores.len(), 1);
    assert_eq!(held.key(), "four");
}

// Covers bugs T21, G16.
#[test]
fn an_out_of_range_sharding_result_is_an_error() {
    let client = Client::builder()
        .servers(["a:1", "b:1"])
        .sharding(|_: &str, servers: usize| servers)
        .build()
        .unwrap();
    let error = client.semaphore("k", 1).unwrap_err();
    assert_eq!(
        error,
        ConfigError::Shard {
            key: "k".to_owned(),
            index: 2,
            servers: 2
        }
    );
    assert!(error.to_string().contains("from 0 to 1"), "{error}");
    assert!(
        Client::builder()
            .servers(Vec::<String>::new())
            .build()
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_scoped_client_takes_precedence_over_the_global_client() {
    let (global, scoped) = (Fixture::new().await, Fixture::new().await);
    global.client.clone().install_global().unwrap();
    assert_eq!(
        scoped.client.clone().install_global(),
        Err(ConfigError::GlobalInstalled)
    );

    let builder = || Semaphore::builder().key("pool").limit(1).build().unwrap();
    let unscoped = builder().acquire().await.unwrap();
    let here = scoped
        .client
        .clone()
        .scope(async { builder().acquire().await.unwrap() })
        .await;
    assert_eq!((global.holders("pool"), scoped.holders("pool")), (1, 1));
    // A scope ends with its future and does not include spawned tasks.
    let outside = scoped
        .client
        .clone()
        .scope(async {
            tokio::spawn(async move { builder().try_acquire().await })
                .await
                .unwrap()
        })
        .await;
    assert!(outside.unwrap_err().is_timeout());
    drop((unscoped, here));
}

// A socket works only while the runtime that created it runs.
#[test]
fn one_client_works_on_several_runtimes() {
    let outside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside.block_on(Server::start()).unwrap();
    let pool = server.client().semaphore("pool", 1).unwrap();
    for _ in 0..5 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for _ in 0..3 {
                cycle(&pool).await;
            }
        });
    }
}

// A program may block all of its blocking threads on slots, so that none is free for name lookup.
#[test]
fn host_names_are_resolved_while_all_blocking_threads_wait_for_slots() {
    let outside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = outside.block_on(Server::start()).unwrap();
    let name = format!("localhost:{}", server.addr().port());
    let pool = server
        .client_builder()
        .servers([name])
        .build()
        .unwrap()
        .semaphore("pool", 4)
        .unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    // The barrier makes all four threads block before any of them takes a slot.
    let barrier = Arc::new(Barrier::new(4));
    let jobs = [(); 4].map(|()| {
        let (handle, pool, barrier) = (runtime.handle().clone(), pool.clone(), barrier.clone());
        runtime.spawn_blocking(move || {
            barrier.wait();
            handle.block_on(pool.acquire())
        })
    });
    for job in jobs {
        outside.block_on(job).unwrap().unwrap().close();
    }
}

/// Polls `call` once outside of a runtime.
fn poll_outside_runtime<T>(call: impl Future<Output = Result<T, Error>>) {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Err(error)) = pin!(call).poll(&mut cx) else {
        panic!("the call waits for a runtime")
    };
    assert!(
        matches!(error, Error::Config(ConfigError::NoRuntime)),
        "{error:?}"
    );
}

#[test]
fn a_call_outside_a_runtime_is_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(Server::start()).unwrap();
    let pool = server.client().semaphore("pool", 2).unwrap();
    let [first, second] = [(); 2].map(|()| runtime.block_on(pool.clone().acquire()).unwrap());
    let Enqueued::Queued(queued) = runtime.block_on(pool.clone().enqueue()).unwrap() else {
        panic!("both are held")
    };
    poll_outside_runtime(pool.clone().acquire());
    poll_outside_runtime(pool.enqueue());
    poll_outside_runtime(queued.wait());
    poll_outside_runtime(first.renew());
    poll_outside_runtime(first.run(async {}));
    poll_outside_runtime(second.release());
    first.check().unwrap();
    // A slot that cannot be released is freed by closing its connection.
    runtime.block_on(async {
        server
            .client()
            .semaphore("pool", 2)
            .unwrap()
            .acquire()
            .await
            .unwrap()
    });
}

// Covers bug G25. A connection serves one holder at a time.
#[tokio::test(start_paused = true)]
async fn a_connection_serves_one_holder_at_a_time_and_is_reused() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 3).unwrap();
    for _ in 0..10 {
        cycle(&pool).await;
    }
    assert_eq!(fixture.server.stats().connections, 1);
    let holds = [
        pool.clone().acquire().await.unwrap(),
        pool.clone().acquire().await.unwrap(),
        pool.clone().acquire().await.unwrap(),
    ];
    assert_eq!(fixture.server.stats().connections, 3);
    for held in holds {
        held.release().await.unwrap();
    }
    pool.acquire().await.unwrap();
    assert_eq!(fixture.server.stats().connections, 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_reused_after_a_long_idle_time() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    // Idle times after which the client or the server closes the connection.
    for idle in [18, 22, 24, 60] {
        cycle(&pool).await;
        tokio::time::sleep(Duration::from_secs(idle)).await;
        cycle(&pool).await;
        assert_eq!(fixture.server.stats().connections, 1, "after {idle} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pooled_connection_closed_by_the_server_causes_no_error() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    for _ in 0..5 {
        cycle(&pool).await;
        fixture.server.faults().disconnect_all();
        cycle(&pool).await;
    }
}

// The client reads the last line of a closing server however late it arrives.
#[tokio::test(start_paused = true)]
async fn a_wrong_auth_token_is_reported_by_a_slow_server() {
    let fixture = Fixture::with_config(crate::fixture::server().auth_token("right").build()).await;
    fixture
        .server
        .faults()
        .delay_replies(Duration::from_millis(300));
    let client = fixture
        .server
        .client_builder()
        .auth("wrong")
        .connector(fixture.server.connector())
        .build()
        .unwrap();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(error.is_auth(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_boxed_connector_is_a_connector() {
    let fixture = Fixture::new().await;
    let connector: Box<dyn Connector> = Box::new(fixture.server.connector());
    let shared: Arc<dyn Connector> = Arc::new(connector);
    fixture
        .server
        .client_builder()
        .connector(shared)
        .build()
        .unwrap()
        .ping()
        .await
        .unwrap();
}
