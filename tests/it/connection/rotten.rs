//! A connector of the user's own whose streams panic.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use dflock::{BoxStream, Client, Enqueued, Error, LostReason};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Result};
use tokio::time::sleep;

use super::Wrapped;
use crate::house::House;

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_is_a_loss_and_no_more() {
    let house = House::new().await;
    let (client, rotten) = client(&house);
    let held = client
        .semaphore("pool", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    rotten.store(true, Ordering::Relaxed);
    house.server.faults().disconnect("pool");
    // the keeper is the first to touch it
    assert_eq!(held.lost().await.reason, LostReason::Disconnected);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_panics_in_line_is_an_end_and_no_more() {
    let house = House::new().await;
    let (client, rotten) = client(&house);
    let first = house
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
    // until the keeper stands in line
    sleep(Duration::from_millis(10)).await;
    rotten.store(true, Ordering::Relaxed);
    house.server.faults().disconnect("pool");
    assert!(matches!(
        queued.wait().await.unwrap_err(),
        Error::Disconnected { .. }
    ));
    drop(first);
}

/// A client, and what makes its streams rotten.
fn client(house: &House) -> (Client, Arc<AtomicBool>) {
    let rotten = Arc::new(AtomicBool::new(false));
    let worm = rotten.clone();
    let connector = Wrapped::new(house, move |good| {
        Box::new(Apple {
            good,
            rotten: worm.clone(),
        })
    });
    (
        Client::builder().connector(connector).build().unwrap(),
        rotten,
    )
}

/// A stream in which every step panics once it is rotten.
struct Apple {
    good: BoxStream,
    rotten: Arc<AtomicBool>,
}

impl Apple {
    fn taste(&mut self) -> Pin<&mut BoxStream> {
        assert!(!self.rotten.load(Ordering::Relaxed), "rotten");
        Pin::new(&mut self.good)
    }
}

impl AsyncRead for Apple {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        self.taste().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Apple {
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
