//! However the bytes are cut, the lines are the same.

use crate::peer::*;

const MIB: usize = 1024 * 1024;

// T03, T27: short reads and short writes, both ways
#[tokio::test]
async fn one_byte_at_a_time_is_enough() {
    let stats = "ok {\"connections\":1,\"semaphores\":[{\"key\":\"键☃-clé-🔒\",\"limit\":5,\"holders\":2,\"waiters\":1}]}\r\n";
    let peer = Peer::byte_by_byte([vec![
        hear(STATS),
        say(stats),
        hear(ACQUIRE),
        say(GRANT),
        hear(RELEASE),
        say("ok\r\n"),
    ]]);
    let client = peer.client();
    let stats = client.stats().await.unwrap();
    assert_eq!(stats[0].semaphores[0].key, "键☃-clé-🔒");
    assert_eq!(stats[0].semaphores[0].holders, 2);
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

// T03 on a real socket: a segment for each byte
#[tokio::test]
async fn a_reply_in_many_segments_is_one_reply() {
    let grant = GRANT.bytes().map(|byte| say([byte]));
    let script = [hear(ACQUIRE)].into_iter().chain(grant).chain([
        hear(RELEASE),
        say("o"),
        say("k"),
        say("\n"),
    ]);
    let peer = Peer::tcp([script.collect()]).await;
    let held = peer.pool().acquire().await.unwrap();
    assert_eq!(held.token().as_str(), TOKEN);
    held.release().await.unwrap();
    peer.finish().await;
}

// N7, G10
#[tokio::test]
async fn a_long_stats_reply_is_read_whole() {
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
    let peer = Peer::memory([vec![hear(STATS), say(&reply), hear(STATS), say(&reply)]]);
    let client = peer.client();
    for _ in 0..2 {
        assert_eq!(client.stats().await.unwrap()[0].semaphores.len(), 1024);
    }
    peer.finish().await;
}

// G06, P14: in bytes, not in characters
#[tokio::test]
async fn the_cap_of_a_reply_is_exact() {
    let reply = |bytes: usize| {
        let mut line = "ok {\"connections\":1,\"é\":0".to_owned();
        line.push_str(&" ".repeat(bytes - line.len() - 1));
        line + "}\n"
    };
    let peer = Peer::memory([vec![
        hear(STATS),
        say(reply(MIB)),
        hear(STATS),
        say(reply(MIB + 1)),
    ]]);
    let client = peer.builder().max_stats_size(MIB).build().unwrap();
    assert_eq!(client.stats().await.unwrap()[0].connections, 1);
    let error = client.stats().await.unwrap_err().to_string();
    assert!(error.contains("1048576 bytes"), "{error}");
    peer.finish().await;
}

// T09, T11, T33: the second line of a segment is kept for the next read
#[tokio::test]
async fn two_replies_in_one_segment_answer_two_requests() {
    let peer = Peer::memory([vec![
        hear(ACQUIRE),
        say(GRANT),
        hear(RENEW),
        tell(),
        hear(RELEASE),
        say("ok 30\nok\n"),
        hear(PING),
        say(OK),
    ]]);
    let client = peer.client();
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    tokio::select! {
        biased;
        _ = held.renew() => panic!("there is no reply yet"),
        () = peer.told() => {}
    }
    // the renewal under way neither skips the release nor is taken for its reply
    held.release().await.unwrap();
    client.ping().await.unwrap();
    peer.finish().await;
}

// T28: what came before the end of one connection is not the beginning of the next
#[tokio::test]
async fn half_a_reply_is_thrown_away_with_its_connection() {
    let (half, _) = GRANT.split_at(20);
    let peer = Peer::memory([
        vec![hear(ACQUIRE), say(half), close()],
        vec![hear(ACQUIRE), say(GRANT)],
    ]);
    let pool = peer.pool();
    pool.clone().acquire().await.unwrap_err();
    assert_eq!(pool.acquire().await.unwrap().token().as_str(), TOKEN);
    peer.finish().await;
}
