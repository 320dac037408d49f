//! The users of etcd.

use dflock::{AuthErrorKind, Client, ClientBuilder, Error};

use super::{SECOND, builder, semaphore};
use dflock_tests::etcd_cluster::{EtcdCluster, own_cluster, shared_cluster};

/// Creates the user `root`, and the user `worker`, who may use keys below `dflock/`.
fn enable_users(cluster: &EtcdCluster) {
    // `ZGZsb2NrLw==` is `dflock/`, and `ZGZsb2NrMA==` the end of its keys.
    for (path, body) in [
        ("role/add", r#"{"name":"root"}"#),
        ("user/add", r#"{"name":"root","password":"secret"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("role/add", r#"{"name":"locks"}"#),
        (
            "role/grant",
            r#"{"name":"locks","perm":{"permType":"READWRITE","key":"ZGZsb2NrLw==","range_end":"ZGZsb2NrMA=="}}"#,
        ),
        ("user/add", r#"{"name":"worker","password":"a:b"}"#),
        ("user/grant", r#"{"user":"worker","role":"locks"}"#),
        ("enable", "{}"),
    ] {
        let response = cluster.post(0, &format!("/v3/auth/{path}"), body);
        assert!(response.contains(" 200 "), "{path}: {response}");
    }
}

async fn cycle(builder: ClientBuilder) -> Result<Client, Error> {
    let client = builder.build()?;
    let held = client.semaphore("auth", 1)?.acquire().await?;
    held.renew().await?;
    held.release().await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_checked_and_their_tokens_renewed() {
    let Some(mut cluster) = own_cluster() else {
        return;
    };
    enable_users(&cluster);
    let kind = |error| match error {
        Error::Auth { kind, .. } => kind,
        other => panic!("{other:?}"),
    };
    let error = cycle(builder(&cluster)).await.unwrap_err();
    assert_eq!(kind(error), AuthErrorKind::Missing);
    for wrong in ["worker:wrong", "other:a:b"] {
        let error = cycle(builder(&cluster).auth(wrong)).await.unwrap_err();
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert_eq!(kind(error), AuthErrorKind::Wrong { long: false });
    }
    // The password has a colon.
    let worker = || builder(&cluster).auth("worker:a:b");
    let client = cycle(worker()).await.unwrap();
    let error = cycle(worker().etcd_prefix("other/")).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { status, .. } if status == "permission denied"),
        "{error:?}"
    );
    // Tokens live in the memory of the members, which forget them. A client that holds nothing
    // renews no lease, so its next request is the first one with the old token.
    let idle = worker().build().unwrap();
    assert!(idle.holders("auth").await.unwrap().is_empty());
    let held = semaphore(&client, "kept", 1, SECOND * 20)
        .acquire()
        .await
        .unwrap();
    for member in 0..3 {
        cluster.kill(member);
        cluster.restart(member);
        cluster.wait_for_leader().unwrap();
    }
    assert_eq!(idle.holders("kept").await.unwrap().len(), 1);
    held.renew().await.unwrap();
    held.release().await.unwrap();
    semaphore(&client, "auth", 1, SECOND * 20)
        .acquire()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_user_on_a_cluster_without_users_is_an_error() {
    let Some(cluster) = shared_cluster() else {
        return;
    };
    let error = cycle(builder(cluster).auth("root:secret"))
        .await
        .unwrap_err();
    let Error::Auth { kind, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(kind, AuthErrorKind::Unneeded);
}
