use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::skipped::skip;
use crate::telemetry::tests::Warnings;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const NAME: &str = "lock-1:6388";

/// A connector to which every name has the addresses `found`.
fn connector(found: Vec<SocketAddr>) -> Tcp {
    let resolver = Resolver::new(move |_| Ok(found.clone()));
    let seconds = Duration::from_secs;
    Tcp {
        resolver,
        ..Tcp::new(seconds(8), seconds(15), seconds(5))
    }
}

/// A socket that listens on `ip`, and one that has the same port of `other` without listening.
///
/// It fails where one of the addresses does not exist, as IPv6 in some containers.
async fn listen(ip: IpAddr, other: IpAddr) -> io::Result<(TcpListener, TcpSocket)> {
    loop {
        let listener = TcpListener::bind((ip, 0)).await?;
        let port = listener.local_addr()?.port();
        let socket = if other.is_ipv6() {
            TcpSocket::new_v6()
        } else {
            TcpSocket::new_v4()
        }?;
        match socket.bind((other, port).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound.map(|()| (listener, socket)),
        }
    }
}

// T29, G15, N12
#[tokio::test]
async fn a_socket_does_not_delay_and_notices_when_its_peer_is_gone() {
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    connector(Vec::new()).tune(&stream).unwrap();
    let socket = SockRef::from(&stream);
    assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(
        (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_user_timeout().unwrap()
        ),
        (
            Duration::from_secs(8),
            Duration::from_secs(5),
            Some(Duration::from_secs(15))
        )
    );
}

#[test]
fn the_lowest_address_of_each_family_is_used_in_whatever_order_they_come() {
    let parse = |text: &[&str]| {
        text.iter()
            .map(|text| text.parse().unwrap())
            .collect::<Vec<_>>()
    };
    for (found, used, unused) in [
        (&["10.0.0.1:1"][..], &["10.0.0.1:1"][..], 0),
        (&["[::1]:1"], &["[::1]:1"], 0),
        (&["127.0.0.1:1", "[::1]:1"], &["[::1]:1", "127.0.0.1:1"], 0),
        (
            &["[::1]:1", "127.0.0.1:1", "127.0.0.1:1"],
            &["[::1]:1", "127.0.0.1:1"],
            0,
        ),
        // by number, not by text
        (&["10.0.0.10:1", "10.0.0.9:1"], &["10.0.0.9:1"], 1),
        (
            &["10.0.0.9:1", "[::2]:1", "10.0.0.10:1", "[::10]:1"],
            &["[::2]:1", "10.0.0.9:1"],
            2,
        ),
    ] {
        let addresses = Addresses::new(&parse(found)).unwrap();
        assert_eq!(
            addresses.used().collect::<Vec<_>>(),
            parse(used),
            "{found:?}"
        );
        assert_eq!(addresses.unused, unused, "{found:?}");
    }
    assert_eq!(
        Addresses::new(&[]).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

// as `localhost` with a server that listens on one of its addresses
#[tokio::test]
async fn a_server_is_found_on_either_address_of_its_name() {
    for (ip, other) in [(V4, V6), (V6, V4)] {
        let Ok((listener, refusing)) = listen(ip, other).await else {
            return skip("this machine has no IPv6");
        };
        let address = listener.local_addr().unwrap();
        let tcp = connector(vec![
            (V4, address.port()).into(),
            (V6, address.port()).into(),
        ]);
        let (connected, accepted) = tokio::join!(tcp.connect(NAME), listener.accept());
        connected.unwrap();
        accepted.unwrap();
        drop(listener);
        let error = tcp.connect(NAME).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let text = error.to_string();
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(
            text.contains(&refusing.local_addr().unwrap().to_string()),
            "{text}"
        );
    }
}

/// Makes the address of `socket` drop what is sent to it: connections that nothing accepts fill its
/// queue. It does so until the result is dropped.
#[cfg(target_os = "linux")]
fn stop_answering(socket: TcpSocket) -> (TcpListener, Vec<std::net::TcpStream>) {
    let address = socket.local_addr().unwrap();
    let listener = socket.listen(0).unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    (listener, iter::from_fn(|| connect().ok()).collect())
}

#[cfg(target_os = "linux")]
#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_delays_the_other_by_a_quarter_of_a_second() {
    let Ok((listener, silent)) = listen(V4, V6).await else {
        return skip("this machine has no IPv6");
    };
    let (address, dead) = (listener.local_addr().unwrap(), silent.local_addr().unwrap());
    let _silent = stop_answering(silent);
    let began = Instant::now();
    let tcp = connector(vec![address, dead]);
    let (connected, accepted) = tokio::join!(tcp.connect(NAME), listener.accept());
    connected.unwrap();
    accepted.unwrap();
    // tokio's timers count in whole milliseconds
    let (head_start, took) = (Duration::from_millis(250), began.elapsed());
    assert!(
        took >= head_start && took <= head_start + Duration::from_millis(1),
        "{took:?}"
    );
}

#[tokio::test]
async fn a_name_that_may_be_several_servers_is_reported_once_by_each_client() {
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let found = vec![([127, 0, 0, 2], 1).into(), listener.local_addr().unwrap()];
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    for client in 1..=2 {
        let tcp = connector(found.clone());
        for _ in 0..3 {
            tcp.connect(NAME).await.unwrap();
        }
        assert_eq!(warnings.count(), client);
    }
    connector(found[1..].to_vec()).connect(NAME).await.unwrap();
    assert_eq!(warnings.count(), 2);
}

#[tokio::test]
async fn a_changed_address_of_a_name_is_reported_each_time() {
    let (first, second) = (
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.2:0").await.unwrap(),
    );
    let addresses = [&first, &second].map(|listener| listener.local_addr().unwrap());
    let answers = Mutex::new([0, 0, 1, 1, 0].into_iter());
    let tcp = Tcp {
        resolver: Resolver::new(move |_| {
            let index = answers.lock().next().unwrap();
            Ok(vec![addresses[index]])
        }),
        ..connector(Vec::new())
    };
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    for changes in [0, 0, 1, 1, 2] {
        tcp.connect(NAME).await.unwrap();
        assert_eq!(warnings.count(), changes);
    }
}

#[cfg(all(target_os = "linux", feature = "server"))]
mod two_servers {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::server::{Server, ServerConfig};
    use crate::{Client, Error};

    /// Two servers at one port of two addresses of a family, and the options of a client of both.
    async fn start(config: impl Fn(&str) -> ServerConfig) -> ([Server; 2], Vec<SocketAddr>) {
        loop {
            let first = config("127.0.0.1:0").start().await.unwrap();
            let port = first.addr().port();
            match config(&format!("127.0.0.2:{port}")).start().await {
                Ok(second) => {
                    let found = vec![second.addr(), first.addr()];
                    return ([first, second], found);
                }
                Err(error) => eprintln!("{error}: another port is tried"),
            }
        }
    }

    fn client(found: &[SocketAddr]) -> Client {
        let builder = Client::builder().servers([NAME]).auth("hush").fencing(true);
        builder
            .connector(connector(found.to_vec()))
            .build()
            .unwrap()
    }

    #[tokio::test]
    async fn a_server_that_drains_is_not_replaced_by_another_of_its_name() {
        let config = |bind: &str| Server::builder().bind(bind).auth_token("hush").build();
        let ([first, second], found) = start(config).await;
        let held = client(&found).lock("k").unwrap().acquire().await.unwrap();
        assert_eq!(first.stats().connections, 1);
        let address = first.addr();
        let shutdown = tokio::spawn(first.shutdown());
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        let error = client(&found)
            .lock("k")
            .unwrap()
            .try_acquire()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            source.contains("127.0.0.1:") && source.contains("not tried"),
            "{source}"
        );
        assert_eq!(second.stats().connections, 0);
        held.check().unwrap();
        held.release().await.unwrap();
        shutdown.await.unwrap();
    }

    #[tokio::test]
    async fn a_kept_connection_does_not_stay_for_ever_at_the_old_address_of_a_name() {
        let ([first, second], mut found) = start(|bind| Server::builder().bind(bind).build()).await;
        found.sort();
        let moved = Arc::<AtomicBool>::default();
        let has_moved = moved.clone();
        let resolver = Resolver::new(move |_| {
            let index = usize::from(has_moved.load(Ordering::Relaxed));
            Ok(vec![found[index]])
        });
        let tcp = Tcp {
            resolver,
            ..connector(Vec::new())
        };
        let builder = Client::builder().servers([NAME]).connector(tcp);
        let client = builder
            .max_connection_age(Duration::from_millis(20))
            .build()
            .unwrap();
        client.ping().await.unwrap();
        assert_eq!(
            (first.stats().connections, second.stats().connections),
            (1, 0)
        );
        moved.store(true, Ordering::Relaxed);
        let follow = async {
            while second.stats().connections == 0 {
                client.ping().await.unwrap();
            }
        };
        timeout(Duration::from_secs(20), follow)
            .await
            .expect("it stays at the old address");
    }

    #[tokio::test]
    async fn a_server_that_refuses_the_secret_is_not_replaced_by_another_of_its_name() {
        let config = |bind: &str| {
            let secret = if bind.starts_with("127.0.0.1") {
                "another"
            } else {
                "hush"
            };
            Server::builder().bind(bind).auth_token(secret).build()
        };
        let ([_first, second], found) = start(config).await;
        let error = client(&found)
            .lock("k")
            .unwrap()
            .acquire()
            .await
            .unwrap_err();
        assert!(error.is_auth(), "{error:?}");
        assert_eq!(second.stats().connections, 0);
    }

    // the wait is shorter than half of `connect_timeout`
    #[tokio::test]
    async fn a_short_wait_reaches_ipv4_behind_an_ipv6_that_does_not_answer() {
        let (server, silent) = loop {
            let server = Server::builder()
                .bind("127.0.0.1:0")
                .build()
                .start()
                .await
                .unwrap();
            let Ok(socket) = TcpSocket::new_v6() else {
                return skip("this machine has no IPv6");
            };
            match socket.bind((V6, server.addr().port()).into()) {
                Ok(()) => break (server, socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(_) => return skip("this machine has no IPv6"),
            }
        };
        let found = vec![server.addr(), silent.local_addr().unwrap()];
        let _silent = stop_answering(silent);
        let builder = Client::builder()
            .servers([NAME])
            .connector(connector(found));
        let client = builder
            .connect_timeout(Duration::from_secs(5))
            .build()
            .unwrap();
        let lock = client.lock("k").unwrap();
        let held = lock.acquire_within(Duration::from_secs(2)).await.unwrap();
        held.release().await.unwrap();
    }
}
