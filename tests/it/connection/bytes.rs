//! Framing: lines are independent of how the bytes are split into segments.

use crate::fixture::acquire_pool;
use crate::scripted_server::*;

const MIB: usize = 1024 * 1024;

// Covers bugs T03, T27. Short reads and short writes in both directions.
#[tokio::test]
async fn requests_and_replies_work_one_byte_at_a_time() {
    let stats = "ok {\"connections\":1,\"semaphores\":\
                 [{\"key\":\"键☃-clé-🔒\",\"limit\":5,\"holders\":2,\"waiters\":1}]}\r\n";
    let server = ScriptedServer::byte_by_byte([vec![
        expect(STATS),
        send(stats),
        expect(ACQUIRE),
        send(GRANT),
        expect(RELEASE),
        send("ok\r\n"),
    ]]);
    let client = server.client();
    let stats = client.stats().await.unwrap();
    assert_eq!(stats[0].semaphores[0].key, "键☃-clé-🔒");
    assert_eq!(stats[0].semaphores[0].holders, 2);
    acquire_pool(&client).await.release().await.unwrap();
    server.finish().await;
}

// Covers bug T03. On a real socket, with one segment for each byte.
#[tokio::test]
async fn a_reply_in_many_segments_is_joined() {
    let grant = GRANT.bytes().map(|byte| send([byte]));
    let script = [expect(ACQUIRE)].into_iter().chain(grant).chain([
        expect(RELEASE),
        send("o"),
        send("k"),
        send("\n"),
    ]);
    let server = ScriptedServer::tcp([script.collect()]).await;
    let held = server.pool().acquire().await.unwrap();
    assert_eq!(held.token().as_str(), TOKEN);
    held.release().await.unwrap();
    server.finish().await;
}

// Covers bugs N7, G10.
#[tokio::test]
async fn a_long_stats_reply_is_read_completely() {
    let entries: Vec<_> = (0..1024)
        .map(|n| {
            format!(
                "{{\"key\":\"{n:0>70}\",\"limit\":1,\"holders\":1,\"waiters\":0,\"unknown\":[]}}"
            )
        })
        .collect();
    let reply = format!(
        "ok {{\"connections\":1024,\"semaphores\":[{}]}}\n",
        entries.join(",")
    );
    assert!(reply.len() > 127_001);
    let server = ScriptedServer::memory([vec![
        expect(STATS),
        send(&reply),
        expect(STATS),
        send(&reply),
    ]]);
    let client = server.client();
    for _ in 0..2 {
        assert_eq!(client.stats().await.unwrap()[0].semaphores.len(), 1024);
    }
    server.finish().await;
}

// Covers bugs G06, P14. The limit counts bytes, not characters.
#[tokio::test]
async fn the_size_limit_of_a_reply_is_exact() {
    let reply = |bytes: usize| {
        let mut line = "ok {\"connections\":1,\"é\":0".to_owned();
        line.push_str(&" ".repeat(bytes - line.len() - 1));
        line + "}\n"
    };
    let server = ScriptedServer::memory([vec![
        expect(STATS),
        send(reply(MIB)),
        expect(STATS),
        send(reply(MIB + 1)),
    ]]);
    let client = server.builder().max_stats_size(MIB).build().unwrap();
    assert_eq!(client.stats().await.unwrap()[0].connections, 1);
    let error = client.stats().await.unwrap_err().to_string();
    assert!(error.contains("1048576 bytes"), "{error}");
    server.finish().await;
}

// Covers bugs T09, T11, T33. The second line of a segment is kept for the next read.
#[tokio::test]
async fn two_replies_in_one_segment_answer_two_requests() {
    let server = ScriptedServer::memory([vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(RENEW),
        checkpoint(),
        expect(RELEASE),
        send("ok 30\nok\n"),
        expect(PING),
        send(OK),
    ]]);
    let client = server.client();
    let held = acquire_pool(&client).await;
    server.cancel_at_checkpoint(held.renew()).await;
    // The pending renewal neither suppresses the release nor consumes its reply.
    held.release().await.unwrap();
    client.ping().await.unwrap();
    server.finish().await;
}

// Covers bug T28. Bytes received on a closed connection are not the start of a reply on the next
// one.
#[tokio::test]
async fn a_partial_reply_is_discarded_with_its_connection() {
    let (half, _) = GRANT.split_at(20);
    let server = ScriptedServer::memory([
        vec![expect(ACQUIRE), send(half), close()],
        vec![expect(ACQUIRE), send(GRANT)],
    ]);
    let pool = server.pool();
    pool.clone().acquire().await.unwrap_err();
    assert_eq!(pool.acquire().await.unwrap().token().as_str(), TOKEN);
    server.finish().await;
}
