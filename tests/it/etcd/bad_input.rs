//! Options and servers that are refused, or cannot be used.

use dflock::{Client, ConfigError, Error, Semaphore};

use super::{SECOND, builder, client};
use dflock_tests::etcd_cluster::{ClusterOptions, EtcdCluster, own_cluster, shared_cluster};

#[test]
fn servers_of_two_kinds_are_refused() {
    for servers in [
        ["etcd://a:2379", "b:6388"],
        ["dflockd://a:6388", "etcd://b:2379"],
    ] {
        let error = Client::builder().servers(servers).build().unwrap_err();
        assert!(
            matches!(error, ConfigError::MixedServers { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains("etcd://"), "{error}");
    }
    let client = Client::builder()
        .servers(["dflockd://a:1", "b:2"])
        .build()
        .unwrap();
    assert_eq!(client.servers().collect::<Vec<_>>(), ["a:1", "b:2"]);
    for bad in [
        "etcd://a",
        "etcd://a:0",
        "etcd://",
        "etcd://u:p@a:1",
        "http://a:1",
        "etcd:a:1",
    ] {
        let error = Client::builder().servers([bad]).build().unwrap_err();
        assert!(
            matches!(error, ConfigError::Address { .. }),
            "{bad}: {error:?}"
        );
        assert!(!error.to_string().contains("u:p"), "{error}");
    }
}

#[test]
fn a_lease_below_two_seconds_says_what_is_granted() {
    let client = Client::builder().servers(["etcd://a:1"]).build().unwrap();
    let semaphore = Semaphore::builder()
        .key("k")
        .limit(1)
        .lease_ttl(SECOND)
        .client(client);
    let error = semaphore.build().unwrap_err();
    assert!(
        matches!(error, ConfigError::ShortLease { engine: "etcd", .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("2s"), "{error}");
}

#[test]
fn a_user_has_a_name_and_a_password() {
    let error = Client::builder()
        .servers(["etcd://a:1"])
        .auth("hush")
        .build()
        .unwrap_err();
    assert_eq!(error, ConfigError::EtcdUser);
    assert!(!error.to_string().contains("hush"));
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_an_error() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    cluster.kill(0);
    cluster.kill(1);
    cluster.wait_for_no_leader(2);
    let error = client(&cluster)
        .lock("k")
        .unwrap()
        .acquire()
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    // The member that is left says so, and the dead ones do not hide it.
    assert!(
        matches!(error, Error::NoLeader { .. } | Error::Unavailable { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_member_of_another_cluster_is_an_error() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let Some(other) = EtcdCluster::start_with(1, &ClusterOptions::default()) else {
        return;
    };
    let members = [&cluster.addresses()[0], &other.addresses()[0]];
    let servers = members.map(|member| format!("etcd://{member}"));
    for _ in 0..4 {
        let client = Client::builder().servers(servers.clone()).build().unwrap();
        let error = client.lock("k").unwrap().acquire().await.unwrap_err();
        assert!(matches!(error, Error::ForeignMember { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_no_etcd_is_an_error() {
    let server = dflock::server::Server::start().await.unwrap();
    let servers = [format!("etcd://{}", server.addr())];
    let client = Client::builder()
        .servers(servers)
        .socket_timeout(SECOND)
        .build()
        .unwrap();
    let error = client.lock("k").unwrap().acquire().await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. } | Error::Connect { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn nothing_listens() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = [format!("etcd://{}", listener.local_addr().unwrap())];
    drop(listener);
    let client = Client::builder()
        .servers(servers)
        .socket_timeout(SECOND)
        .build()
        .unwrap();
    let error = client.lock("k").unwrap().acquire().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn the_environment_names_the_members_and_the_prefix() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let members = cluster.addresses().into_iter();
    let members: Vec<_> = members.map(|member| format!("etcd://{member}")).collect();
    let members = members.join(",");
    let lookup = |name: &str| match name {
        "DFLOCK_SERVERS" => Some(members.clone().into()),
        "DFLOCK_ETCD_PREFIX" => Some("environment/".into()),
        _ => None,
    };
    let client = dflock::ClientBuilder::from_lookup(lookup)
        .unwrap()
        .build()
        .unwrap();
    client.ping().await.unwrap();
    assert_eq!(client.servers().count(), 3);
    let held = client.lock("k").unwrap().acquire().await.unwrap();
    let other = builder(cluster).etcd_prefix("environment/").build();
    let holders = other.unwrap().holders("k").await.unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].token, *held.token());
}
