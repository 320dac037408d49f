//! Wake-ups of the task that uses a connection, whichever task used it before.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use dflock::{BoxStream, Client, Error, LostReason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Result};
use tokio::task::consume_budget;
use tokio::time::{Instant, sleep, timeout};

use super::WrappingConnector;
use crate::fixture::Fixture;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_reused_connection_is_read_six_times_per_cycle() {
    let fixture = Fixture::new().await;
    let reads = Arc::new(AtomicU32::new(0));
    let count = reads.clone();
    let connector = WrappingConnector::new(&fixture, move |inner| {
        Box::new(CountingStream {
            inner,
            reads: count.clone(),
        })
    });
    let client = Client::builder().connector(connector).build().unwrap();
    let mut pool = client.semaphore("pool", 1).unwrap();
    for reused in [false, true, true, true] {
        let before = reads.load(Ordering::Relaxed);
        pool = pool.acquire().await.unwrap().release().await.unwrap();
        let count = reads.load(Ordering::Relaxed) - before;
        // Two polls for each reply, one when the pool checks the connection, and one that registers
        // the keep-alive task.
        assert!(!reused || count == 6, "{count}");
    }
}

// With an exhausted budget, tokio's resources return `Pending` even when they are ready.
#[tokio::test(start_paused = true)]
async fn an_exhausted_coop_budget_misses_no_event() {
    for units in 115..=130 {
        let fixture = Fixture::new().await;
        let pool = fixture.client.semaphore("pool", 1).unwrap();
        // The connection of the second cycle already has a background task.
        let pool = pool.acquire().await.unwrap().release().await.unwrap();
        let held = exhaust_budget(units, pool.acquire()).await.unwrap();
        sleep(100 * SECOND).await;
        held.check().unwrap();
        let held = exhaust_budget(units, held.release())
            .await
            .unwrap()
            .acquire()
            .await
            .unwrap();
        let start = Instant::now();
        fixture.server.faults().disconnect("pool");
        assert_eq!(held.lost().await.reason, LostReason::Disconnected);
        assert!(start.elapsed() < Duration::from_millis(5), "{units}");
        fixture.server.faults().freeze();
        let late = exhaust_budget(
            units,
            fixture
                .client
                .semaphore("pool", 1)
                .unwrap()
                .acquire_within(SECOND),
        );
        let error = timeout(20 * SECOND, tokio::spawn(late))
            .await
            .expect("the request does not time out")
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_times_out_on_another_task_than_the_previous_request() {
    let fixture = Fixture::new().await;
    let pool = fixture.client.semaphore("pool", 1).unwrap();
    let first = pool.clone();
    let cycle = async move { first.acquire().await.unwrap().release().await.unwrap() };
    tokio::spawn(cycle).await.unwrap();
    fixture.server.faults().freeze();
    let start = Instant::now();
    let error = tokio::spawn(pool.acquire_within(SECOND))
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, Error::Unresponsive { .. }), "{error:?}");
    assert_eq!(start.elapsed(), 2 * SECOND);
}

// TLS may have to read before it can write. This socket wakes only the waker of its last poll.
#[tokio::test(start_paused = true)]
async fn a_stream_that_reads_before_it_writes_makes_progress() {
    let fixture = Fixture::new().await;
    let connector = WrappingConnector::new(&fixture, |inner| Box::new(ReadBeforeWrite::new(inner)));
    let client = Client::builder().connector(connector).build().unwrap();
    let mut pool = client.semaphore("pool", 1).unwrap();
    let start = Instant::now();
    for _ in 0..3 {
        pool = pool.acquire().await.unwrap().release().await.unwrap();
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Consumes `units` units of the coop budget before every other poll of `future`.
async fn exhaust_budget<T>(units: u32, future: impl Future<Output = T>) -> T {
    let (mut future, mut exhaust) = (pin!(future), false);
    poll_fn(|cx| {
        exhaust = !exhaust;
        if exhaust {
            for _ in 0..units {
                _ = pin!(consume_budget()).poll(cx);
            }
        }
        future.as_mut().poll(cx)
    })
    .await
}

/// Stream that counts its reads.
struct CountingStream {
    inner: BoxStream,
    reads: Arc<AtomicU32>,
}

impl AsyncRead for CountingStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CountingStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Stream that wakes only the waker of its last pending poll. It writes a release only after a
/// pending read.
struct ReadBeforeWrite {
    inner: BoxStream,
    waker: Arc<SharedWaker>,
    /// Set while the pending write waits for a read.
    reads_first: bool,
}

#[derive(Default)]
struct SharedWaker(Mutex<Option<Waker>>);

impl Wake for SharedWaker {
    fn wake(self: Arc<Self>) {
        let waker = self.0.lock().unwrap().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl ReadBeforeWrite {
    fn new(inner: BoxStream) -> Self {
        Self {
            inner,
            waker: Arc::default(),
            reads_first: false,
        }
    }

    fn poll_inner<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut BoxStream>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let ready = poll(
            Pin::new(&mut self.inner),
            &mut Context::from_waker(&self.waker.clone().into()),
        );
        if ready.is_pending() {
            *self.waker.0.lock().unwrap() = Some(cx.waker().clone());
        }
        ready
    }
}

impl AsyncRead for ReadBeforeWrite {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.poll_inner(cx, |inner, cx| inner.poll_read(cx, buffer))
    }
}

impl AsyncWrite for ReadBeforeWrite {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        self.reads_first = bytes.starts_with(b"sr\n") && !self.reads_first;
        if self.reads_first {
            let waker = self.waker.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(1)).await;
                waker.wake();
            });
            return self.poll_inner(cx, |_, _| Poll::Pending);
        }
        self.poll_inner(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_inner(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_inner(cx, AsyncWrite::poll_shutdown)
    }
}
