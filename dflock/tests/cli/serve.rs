//! `dflock serve`.

use dflock::Client;
use rustix::process::Signal;

use crate::program::{Run, dflock};

async fn served(flags: &[&str]) -> (Run, String) {
    let mut serve = Run::of(&mut dflock(&[&["serve", "--port", "0"], flags].concat()));
    let addr = serve.line().await.unwrap();
    (serve, addr)
}

#[tokio::test]
async fn it_serves_until_it_is_asked_to_end() {
    for signal in [Signal::INT, Signal::TERM] {
        let (mut serve, addr) = served(&[]).await;
        let client = Client::builder().servers([addr]).build().unwrap();
        let held = client.semaphore("pool", 2).unwrap().acquire().await.unwrap();
        held.release().await.unwrap();
        serve.signal(signal);
        assert_eq!(serve.status().await, 0, "{signal:?}");
    }
}

#[tokio::test]
async fn it_waits_for_holders_and_a_second_signal_ends_that() {
    let (mut serve, addr) = served(&["--shutdown-timeout", "0"]).await;
    let client = Client::builder().servers([addr]).build().unwrap();
    let _held = client.semaphore("pool", 2).unwrap().acquire().await.unwrap();
    serve.signal(Signal::INT);
    // it has heard the first when it takes nobody any more
    while client.semaphore("other", 1).unwrap().try_acquire().await.is_ok() {}
    serve.signal(Signal::INT);
    assert_eq!(serve.status().await, 130);
}

#[tokio::test]
async fn its_flags_are_the_servers_options() {
    let (_serve, addr) = served(&["--auth-token", "hush", "--default-lease-ttl", "7", "--max-locks", "1"]).await;
    let stranger = Client::builder().servers([&*addr]).build().unwrap();
    assert!(stranger.ping().await.unwrap_err().is_auth());
    let client = Client::builder().servers([&*addr]).auth("hush").build().unwrap();
    let held = client.semaphore("pool", 2).unwrap().acquire().await.unwrap();
    assert_eq!(held.lease().as_secs(), 7);
    let error = client.semaphore("second", 2).unwrap().acquire().await.unwrap_err();
    assert!(matches!(error, dflock::Error::TooManyKeys { .. }), "{error}");
}
