//! The program on an etcd cluster.

use std::time::Duration;

use dflock::{Client, LostReason, Semaphore};
use dflock_tests::etcd_cluster::{EtcdCluster, shared_cluster};
use serde_json::Value;
use tokio::process::Command;

use crate::process::{dflock, output, output_of, status, text};

pub(crate) fn servers(cluster: &EtcdCluster) -> String {
    let members = cluster.addresses().into_iter();
    let members: Vec<_> = members.map(|member| format!("etcd://{member}")).collect();
    members.join(",")
}

fn dflock_on(cluster: &EtcdCluster, args: &[&str]) -> Command {
    let mut command = dflock(args);
    command.env("DFLOCK_SERVERS", servers(cluster));
    command
}

fn client(cluster: &EtcdCluster) -> Client {
    let servers = servers(cluster);
    let builder = Client::builder().servers(servers.split(','));
    builder.build().unwrap()
}

fn pool(cluster: &EtcdCluster, key: &str) -> Semaphore {
    let pool = Semaphore::builder().key(key).limit(2);
    let pool = pool.lease_ttl(Duration::from_secs(2));
    pool.client(client(cluster)).build().unwrap()
}

#[tokio::test]
async fn the_command_runs_with_the_token_and_the_fence_of_its_slot() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let script = "printf '%s %s' \"$DFLOCK_TOKEN\" \"$DFLOCK_FENCE\"; exit 3";
    let args = ["run", "--key", "cli", "--fencing", "--", "sh", "-c", script];
    let output = output_of(&mut dflock_on(cluster, &args)).await;
    assert_eq!(status(&output), 3, "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let (token, fence) = shown.split_once(' ').unwrap();
    let from_token = u64::from_str_radix(&token[..16], 16).unwrap();
    assert_eq!(fence.parse(), Ok(from_token), "{shown}");
    // The slot is free when the program has ended, and not after the lease of 10 s: an idle key
    // takes another limit.
    pool(cluster, "cli").try_acquire().await.unwrap();
}

#[tokio::test]
async fn holders_and_stats_are_shown() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let held = pool(cluster, "shown").acquire().await.unwrap();
    let stats = output_of(&mut dflock_on(cluster, &["stats"])).await;
    assert_eq!(status(&stats), 0, "{}", text(&stats.stderr));
    let shown = text(&stats.stdout);
    assert_eq!(
        shown.lines().next(),
        Some(&*format!("etcd://{}", cluster.addresses().join(",")))
    );
    assert!(
        shown.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words[..] == ["shown", "semaphore", "1/2", "■□", "0"]
        }),
        "{shown}"
    );
    let table = output_of(&mut dflock_on(cluster, &["holders", "shown"])).await;
    assert_eq!(status(&table), 0, "{}", text(&table.stderr));
    let lines: Vec<Vec<_>> = text(&table.stdout)
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let pid = std::process::id().to_string();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1][..3], [held.token().as_str(), "semaphore", "1/2"]);
    assert_eq!(lines[1][4], pid);
    let json = output_of(&mut dflock_on(cluster, &["holders", "shown", "--json"])).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json[0]["token"], held.token().as_str());
    assert_eq!(json[0]["pid"], std::process::id());
    assert_eq!(json[0]["kind"], "semaphore");
    assert!(json[0]["joined_at"].as_f64() > Some(1.7e9), "{json}");
    let _lock = client(cluster)
        .lock("shown")
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let table = output_of(&mut dflock_on(cluster, &["holders", "shown"])).await;
    let lines: Vec<_> = text(&table.stdout).lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1].split_whitespace().nth(1), Some("lock"));
    let none = output_of(&mut dflock_on(cluster, &["holders", "unknown"])).await;
    assert_eq!(text(&none.stdout), "no holders\n");
}

#[tokio::test]
async fn a_revoked_slot_is_lost_and_an_unknown_token_is_status_1() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let held = pool(cluster, "revoked").acquire().await.unwrap();
    let args = ["revoke", "revoked", held.token().as_str()];
    let revoked = output_of(&mut dflock_on(cluster, &args)).await;
    assert_eq!(status(&revoked), 0, "{}", text(&revoked.stderr));
    assert_eq!(held.lost().await.reason, LostReason::Revoked);
    for token in [args[2], "x"] {
        let unknown = output_of(&mut dflock_on(cluster, &["revoke", "revoked", token])).await;
        assert_eq!(status(&unknown), 1);
        let message = text(&unknown.stderr);
        assert!(message.contains("no holder of \"revoked\""), "{message}");
    }
}

#[tokio::test]
async fn a_revoked_slot_ends_its_command() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let args = [
        "run", "--key", "ended", "--lease", "2s", "--", "sleep", "60",
    ];
    let run = dflock_on(cluster, &args).spawn().unwrap();
    let operator = pool(cluster, "other").acquire().await.unwrap();
    let client = Client::builder()
        .servers(servers(cluster).split(','))
        .build()
        .unwrap();
    let holder = loop {
        if let Some(holder) = client.holders("ended").await.unwrap().pop() {
            break holder;
        }
    };
    assert_eq!(holder.program, "dflock");
    assert!(client.revoke("ended", &holder.token).await.unwrap());
    let output = run.wait_with_output().await.unwrap();
    assert_eq!(status(&output), 76, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("revoked"));
    drop(operator);
}

#[tokio::test]
async fn errors_name_the_options_of_the_command_line() {
    let server = dflock::server::Server::start().await.unwrap();
    for args in [&["holders", "k"][..], &["revoke", "k", "t"]] {
        let refused = output(&server, args).await;
        assert_eq!(status(&refused), 64);
        let message = text(&refused.stderr);
        assert!(message.contains(&format!("{} \"k\"", args[0])), "{message}");
        assert!(
            message.contains("dflockd does not support this") && message.contains("--servers etcd"),
            "{message}"
        );
    }
    let run = |servers: &str, more: &[&str]| {
        let mut args = vec!["run", "--key", "k", "--servers", servers];
        args.extend(more);
        args.extend(["--", "true"]);
        dflock(&args)
    };
    for (mut command, expected) in [
        (run("etcd://a:2379,b:6388", &[]), "of two kinds"),
        (run("etcd://a", &[]), "it has no port"),
        (run("etcd://a:2379", &["--lease", "1s"]), "--lease 1s"),
    ] {
        let refused = output_of(&mut command).await;
        let message = text(&refused.stderr);
        assert_eq!(status(&refused), 64, "{message}");
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let mut user = run("etcd://a:2379", &[]);
    let refused = output_of(user.env("DFLOCK_AUTH_TOKEN", "hush")).await;
    let message = text(&refused.stderr);
    assert!(
        message.contains("NAME:PASSWORD") && !message.contains("hush"),
        "{message}"
    );
}
