//! Sharding: both clients assign a key to the same server.

use dflock::{Crc32, Sharding};

use super::program::Program;
use super::python::interop;

const KEYS: usize = 10_000;

#[tokio::test]
async fn python_assigns_every_key_to_the_same_server() {
    interop(async |python| {
        let lines = python
            .output(
                "shards.py",
                &["--seed", "6388", "--keys", &KEYS.to_string()],
                "",
            )
            .await;
        let mut beyond_ascii = 0;
        // Python's `splitlines` would split at characters that do not end a line here.
        for line in lines.trim_end_matches('\n').split('\n') {
            let [servers, index, key] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
            assert_eq!(
                Crc32.shard(key, servers.parse().unwrap()),
                index.parse::<usize>().unwrap(),
                "{key} on {servers} servers"
            );
            beyond_ascii += usize::from(!key.is_ascii());
        }
        assert_eq!(lines.matches('\n').count(), KEYS);
        assert!(beyond_ascii > KEYS / 2);
    })
    .await;
}

#[tokio::test]
async fn python_respects_holds_of_rust_on_three_servers() {
    interop(async |python| {
        let servers = [
            Program::dflock_serve(&[]).await,
            Program::dflock_serve(&[]).await,
            Program::dflock_serve(&[]).await,
        ];
        let addresses = servers.each_ref().map(|server| server.addr.to_string());
        let client = dflock::Client::builder()
            .servers(addresses.clone())
            .build()
            .unwrap();
        let mut held = Vec::new();
        let keys: Vec<_> = (0..20).map(|number| format!("job-{number}-鍵")).collect();
        for key in &keys {
            let lock = client.lock(key).unwrap().acquire().await.unwrap();
            let pool = client.semaphore(key, 3).unwrap();
            held.push((
                lock,
                [
                    pool.clone().acquire().await.unwrap(),
                    pool.clone().acquire().await.unwrap(),
                    pool.acquire().await.unwrap(),
                ],
            ));
        }
        python
            .run_cases(
                "elsewhere.py",
                &["--servers", &addresses.join(",")],
                &keys.join("\n"),
            )
            .await;
        for stats in client.stats().await.unwrap() {
            assert!(
                !stats.locks.is_empty() && stats.locks.len() < keys.len(),
                "the keys are spread"
            );
        }
        for (lock, slots) in held {
            lock.release().await.unwrap();
            for slot in slots {
                slot.release().await.unwrap();
            }
        }
    })
    .await;
}
