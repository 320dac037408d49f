//! User-defined streams that panic.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dflock::{BoxStream, Client, Enqueued, Error, LostReason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Result};
use tokio::time::sleep;

use super::WrappingConnector;
use crate::fixture::Fixture;

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_is_a_loss_and_no_more() {
    let fixture = Fixture::new().await;
    let (client, rotten) = client(&fixture);
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    rotten.store(true, Ordering::Relaxed);
    fixture.server.faults().disconnect("pool");
    // The keep-alive task is the first to poll the stream.
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_in_line_is_an_end_and_no_more() {
    let fixture = Fixture::new().await;
    let (client, rotten) = client(&fixture);
    let first = fixture
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let Enqueued::Queued(queued) = client
        .semaphore("pool", 1)
        .unwrap()
        .enqueue()
        .await
        .unwrap()
    else {
        panic!("queued")
    };
    // The keep-alive task waits in the queue after this delay.
    sleep(Duration::from_millis(10)).await;
    rotten.store(true, Ordering::Relaxed);
    fixture.server.faults().disconnect("pool");
    assert!(matches!(
        queued.wait().await.unwrap_err(),
        Error::Disconnected { .. }
    ));
    drop(first);
}

/// Returns a client and a flag that makes its streams panic.
fn client(fixture: &Fixture) -> (Client, Arc<AtomicBool>) {
    let rotten = Arc::new(AtomicBool::new(false));
    let worm = rotten.clone();
    let connector = WrappingConnector::new(fixture, move |good| {
        Box::new(PanickingStream {
            good,
            rotten: worm.clone(),
        })
    });
    (
        Client::builder().connector(connector).build().unwrap(),
        rotten,
    )
}

/// Stream that panics at every poll once the flag is set.
struct PanickingStream {
    good: BoxStream,
    rotten: Arc<AtomicBool>,
}

impl PanickingStream {
    fn taste(&mut self) -> Pin<&mut BoxStream> {
        assert!(!self.rotten.load(Ordering::Relaxed), "rotten");
        Pin::new(&mut self.good)
    }
}

impl AsyncRead for PanickingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.taste().poll_read(cx, buffer)
    }
}

impl AsyncWrite for PanickingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.taste().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.taste().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.taste().poll_shutdown(cx)
    }
}
