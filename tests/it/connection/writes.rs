//! Requests that are written partially or not at all.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dflock::{BoxStream, Client, Error};
use tokio::io::{AsyncRead, AsyncWrite, ErrorKind, ReadBuf, Result};
use tokio::time::{Instant, timeout};

use super::WrappingConnector;
use crate::fixture::{Fixture, acquire_pool};
use crate::scripted_server::*;

// Covers bug P35. The server does not read. A timeout set by the caller is not an error of the
// client.
#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_written_times_out() {
    let server = ScriptedServer::byte_by_byte([vec![wait_for_test()], vec![wait_for_test()]]);
    let client = server
        .builder()
        .socket_timeout(Duration::from_secs(3))
        .build()
        .unwrap();
    let start = Instant::now();
    let error = client
        .semaphore("pool", 1)
        .unwrap()
        .enqueue()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(start.elapsed().as_secs(), 3);
    timeout(Duration::from_secs(2), client.ping())
        .await
        .unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5);
}

// Covers bug T45.
#[tokio::test(start_paused = true)]
async fn a_release_waits_until_the_previous_renewal_is_written() {
    let (half, rest) = RENEW.split_at(20);
    let script = vec![
        expect(ACQUIRE),
        send(GRANT),
        expect(half),
        checkpoint(),
        wait_for_test(),
        expect(rest),
        expect(RELEASE),
        send("ok 30\nok\n"),
    ];
    let server = ScriptedServer::byte_by_byte([script]);
    let held = server.pool().acquire().await.unwrap();
    server.cancel_at_checkpoint(held.renew()).await;
    let mut release = Box::pin(held.release());
    assert!(timeout(Duration::from_secs(1), &mut release).await.is_err());
    server.resume();
    release.await.unwrap();
    server.finish().await;
}

// Covers bug P05.
#[tokio::test(start_paused = true)]
async fn a_failed_write_of_a_release_closes_the_connection() {
    let fixture = Fixture::new().await;
    let blocked = Arc::new(AtomicBool::new(false));
    let blocked_in_stream = blocked.clone();
    let connector = WrappingConnector::new(&fixture, move |inner| {
        Box::new(BlockedWriter {
            inner: ManuallyDrop::new(inner),
            blocked: blocked_in_stream.clone(),
        })
    });
    let client = Client::builder().connector(connector).build().unwrap();
    let held = acquire_pool(&client).await;
    blocked.store(true, Ordering::Relaxed);
    drop(held);
    fixture
        .client
        .semaphore("pool", 1)
        .unwrap()
        .acquire_within(Duration::from_millis(5))
        .await
        .unwrap();
}

/// Stream whose writes fail once it is blocked. It stays open until it is shut down.
struct BlockedWriter {
    inner: ManuallyDrop<BoxStream>,
    blocked: Arc<AtomicBool>,
}

impl AsyncRead for BlockedWriter {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut *self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BlockedWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        if self.blocked.load(Ordering::Relaxed) {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut *self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}
