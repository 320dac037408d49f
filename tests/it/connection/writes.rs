//! Requests that are written in part, or not at all.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dflock::{BoxStream, Client, Error};
use tokio::io::{AsyncRead, AsyncWrite, ErrorKind, ReadBuf, Result};
use tokio::time::{Instant, timeout};

use super::Wrapped;
use crate::house::House;
use crate::peer::*;

// P35: a peer that does not read; and who gives up first is no timeout of ours
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_written_ends_in_its_time() {
    let peer = Peer::byte_by_byte([vec![cue()], vec![cue()]]);
    let client = peer
        .builder()
        .socket_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let began = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .enqueue()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(began.elapsed().as_secs(), 3);
    timeout(Duration::from_secs(2), client.ping())
        .await
        .unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 5);
}

// T45
#[tokio::test(start_paused = true)]
async fn a_release_waits_until_the_renewal_before_it_is_written() {
    let (half, rest) = RENEW.split_at(20);
    let script = vec![
        hear(ACQUIRE),
        say(GRANT),
        hear(half),
        tell(),
        cue(),
        hear(rest),
        hear(RELEASE),
        say("ok 30\nok\n"),
    ];
    let peer = Peer::byte_by_byte([script]);
    let held = peer.pool().acquire().await.unwrap();
    tokio::select! {
        biased;
        _ = held.renew() => panic!("there is no reply yet"),
        () = peer.told() => {}
    }
    let mut release = Box::pin(held.release());
    assert!(timeout(Duration::from_secs(1), &mut release).await.is_err());
    peer.cue();
    release.await.unwrap();
    peer.finish().await;
}

// P05
#[tokio::test(start_paused = true)]
async fn a_release_that_cannot_be_written_does_not_keep_the_connection_open() {
    let house = House::new().await;
    let cut = Arc::new(AtomicBool::new(false));
    let knife = cut.clone();
    let connector = Wrapped::new(&house, move |whole| {
        Box::new(Wire {
            whole: ManuallyDrop::new(whole),
            cut: knife.clone(),
        })
    });
    let client = Client::builder().connector(connector).build().unwrap();
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    cut.store(true, Ordering::Relaxed);
    drop(held);
    house
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire_within(Duration::from_millis(5))
        .await
        .unwrap();
}

/// A stream that cannot be written to once it is cut, and stays open until it is shut down.
struct Wire {
    whole: ManuallyDrop<BoxStream>,
    cut: Arc<AtomicBool>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut *self.whole).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        if self.cut.load(Ordering::Relaxed) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut *self.whole).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut *self.whole).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut *self.whole).poll_shutdown(cx)
    }
}
