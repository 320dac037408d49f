//! Microbenchmarks of the steps of a cycle.
//!
//! ```text
//! RUSTFLAGS='--cfg dflock_bench' cargo bench -p dflock-examples --bench micro \
//!     --target-dir target/micro
//! ```
//!
//! The measured items of dflock are public only with this flag.

#[cfg(not(dflock_bench))]
fn main() {
    println!("nothing was measured: build with RUSTFLAGS='--cfg dflock_bench'");
}

#[cfg(dflock_bench)]
fn main() {
    divan::main();
}

#[cfg(dflock_bench)]
#[expect(
    clippy::expect_used,
    reason = "a benchmark that cannot continue has failed"
)]
mod parts {
    use dflock::bench_support::{AcquireRelease, Pool, Requests, decode};
    use dflock::server::Server;
    use dflock::{Crc32, Lock, Sharding, acquire_all};
    use divan::{Bencher, black_box};
    use tokio::runtime::Builder;

    #[divan::bench]
    fn encode_acquire_and_release(bencher: Bencher<'_, '_>) {
        let mut requests = Requests::default();
        bencher.bench_local(|| black_box(&mut requests).encode().len());
    }

    #[divan::bench(args = [
        "ok",
        "ok 00000000000000ff0123456789abcdef 33",
        "ok 33",
        "timeout",
        "error_limit_mismatch",
    ])]
    fn decode_reply(line: &str) -> bool {
        decode(black_box(line.as_bytes()))
    }

    #[divan::bench(args = [1, 3])]
    fn shard(servers: usize) -> usize {
        Crc32.shard(black_box("worker-pool"), servers)
    }

    #[divan::bench(args = [1, 256])]
    fn pool_checkout(bencher: Bencher<'_, '_>, connections: usize) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("failed to build the runtime");
        let _guard = runtime.enter();
        let pool = Pool::new(connections);
        bencher.bench_local(|| pool.checkout());
    }

    /// Two keys of a server in memory, acquired together or one after the other.
    #[divan::bench(args = ["acquire_all", "two acquires"])]
    fn acquire_and_release_two_keys(bencher: Bencher<'_, '_>, method: &str) {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("failed to build the runtime");
        let (_server, locks) = runtime.block_on(two_locks());
        let [a, b] = &locks;
        bencher.bench_local(|| {
            runtime
                .block_on(async {
                    if method == "acquire_all" {
                        let all = acquire_all(&locks).await?;
                        all.release().await
                    } else {
                        let (a, b) = (a.clone().acquire().await?, b.clone().acquire().await?);
                        a.release().await?;
                        b.release().await.map(drop)
                    }
                })
                .expect("the locks are free");
        });
    }

    async fn two_locks() -> (Server, [Lock; 2]) {
        let server = Server::start().await.expect("no port is free");
        let client = server
            .client_builder()
            .connector(server.connector())
            .build()
            .expect("the options are valid");
        let locks = ["a", "b"].map(|key| client.lock(key).expect("the key is valid"));
        (server, locks)
    }

    #[divan::bench(args = [0, 100, 10_000])]
    fn table_acquire_and_release(bencher: Bencher<'_, '_>, held: u64) {
        let mut cycle = AcquireRelease::new(held);
        bencher.bench_local(|| cycle.run());
    }
}
