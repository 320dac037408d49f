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
use crate::fixture::{Fixture, acquire_pool};

#[tokio::test(start_paused = true)]
async fn a_panicking_stream_only_loses_the_slot() {
    let fixture = Fixture::new().await;
    let (client, panics) = client(&fixture);
    let held = acquire_pool(&client).await;
    panics.store(true, Ordering::Relaxed);
    fixture.server.faults().disconnect("pool");
    // The keep-alive task is the first to poll the stream.
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_stream_only_disconnects_a_waiter() {
    let fixture = Fixture::new().await;
    let (client, panics) = client(&fixture);
    let first = acquire_pool(&fixture.client).await;
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
    panics.store(true, Ordering::Relaxed);
    fixture.server.faults().disconnect("pool");
    assert!(matches!(
        queued.wait().await.unwrap_err(),
        Error::Disconnected { .. }
    ));
    drop(first);
}

/// Returns a client and a flag that makes its streams panic.
fn client(fixture: &Fixture) -> (Client, Arc<AtomicBool>) {
    let panics = Arc::new(AtomicBool::new(false));
    let panics_in_stream = panics.clone();
    let connector = WrappingConnector::new(fixture, move |stream| {
        Box::new(PanickingStream {
            stream,
            panics: panics_in_stream.clone(),
        })
    });
    (
        Client::builder().connector(connector).build().unwrap(),
        panics,
    )
}

/// Stream that panics at every poll once the flag is set.
struct PanickingStream {
    stream: BoxStream,
    panics: Arc<AtomicBool>,
}

impl PanickingStream {
    fn check(&mut self) -> Pin<&mut BoxStream> {
        assert!(!self.panics.load(Ordering::Relaxed), "planned panic");
        Pin::new(&mut self.stream)
    }
}

impl AsyncRead for PanickingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.check().poll_read(cx, buffer)
    }
}

impl AsyncWrite for PanickingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.check().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.check().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.check().poll_shutdown(cx)
    }
}
