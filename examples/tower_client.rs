//! Client of a payment service that takes two requests at once from all programs together.
//!
//! `cargo run --example tower_client` puts `SlotLayer` around a tower service that sends requests.
//! It shows the fence in a request, a caller that gets no slot in time, and a request that is
//! dropped because its slot was lost.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dflock::tower::{BoxError, SlotLayer};
use dflock::{Error, Held, Semaphore};
use dflock_examples::Outcome;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tower::{ServiceBuilder, ServiceExt, service_fn};

const KEY: &str = "payments";
const LIMIT: u32 = 2;

/// Request to the payment service.
struct Payment {
    cents: u32,
    /// Lets the service refuse a late request of an earlier holder.
    fence: Option<u64>,
    duration: Duration,
}

impl Payment {
    fn new(cents: u32, duration: Duration) -> Self {
        Self {
            cents,
            fence: None,
            duration,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let (client, servers) = dflock_examples::connect(1).await?;
    let slots = Semaphore::builder()
        .key(KEY)
        .limit(LIMIT)
        .acquire_timeout(Duration::from_millis(400))
        .client(client)
        .build()?;
    // All payments use one key. A limit for each account would have a key from the request.
    let slot = SlotLayer::new(move |_: &Payment| Ok(slots.clone()))
        .on_acquired(|payment: &mut Payment, held: &Held| payment.fence = held.fence());
    let requests = Requests::default();
    let sent = requests.clone();
    // Cloned for each request. A time limit below the slot begins with the grant, and one above it
    // includes the wait.
    let payments = ServiceBuilder::new()
        .layer(slot)
        .service(service_fn(move |payment| sent.clone().send(payment)));

    println!("six payments:");
    let began = Instant::now();
    let mut replies = JoinSet::new();
    for cents in 1..=6 {
        let payment = Payment::new(cents, Duration::from_millis(60));
        replies.spawn(payments.clone().oneshot(payment));
    }
    while let Some(reply) = replies.join_next().await {
        println!("{} after {} ms", reply??, began.elapsed().as_millis());
    }

    println!("a payment while two others take a second:");
    for cents in [7, 8] {
        let payment = Payment::new(cents, Duration::from_secs(1));
        replies.spawn(payments.clone().oneshot(payment));
    }
    requests.wait_until_running(LIMIT).await;
    let payment = Payment::new(9, Duration::ZERO);
    let error = payments.clone().oneshot(payment).await.err();
    let error = error.ok_or("a third request ran")?;
    // The service has received nothing, so the payment can be tried again.
    match error.downcast_ref::<Error>() {
        Some(busy) if busy.is_timeout() => println!("busy: {busy}"),
        _ => return Err(error),
    }

    if let Some(server) = servers.first() {
        println!("the two lose their slots:");
        server.faults().disconnect(KEY);
        while let Some(reply) = replies.join_next().await {
            let error = reply?.err().ok_or("a payment without a slot was made")?;
            // The request was dropped on its way, so the payment may have been made. The fence lets
            // the service refuse it when the next holder has paid.
            match error.downcast_ref::<Error>() {
                Some(lost) if lost.is_lost() => println!("lost: {lost}"),
                _ => return Err(error),
            }
        }
    }
    let most = requests.most.load(Ordering::SeqCst);
    println!("most requests at once: {most} of {LIMIT}");
    if most > LIMIT {
        return Err("the limit did not hold".into());
    }
    Ok(())
}

/// Stands in for a client such as that of hyper or tonic, and counts the requests on their way.
#[derive(Clone, Default)]
struct Requests {
    running: Arc<watch::Sender<u32>>,
    most: Arc<AtomicU32>,
}

impl Requests {
    async fn send(self, payment: Payment) -> Result<String, BoxError> {
        let _running = Running::new(&self);
        sleep(payment.duration).await;
        Ok(format!(
            "{} cents paid, fence {:?}",
            payment.cents, payment.fence
        ))
    }

    async fn wait_until_running(&self, requests: u32) {
        let mut running = self.running.subscribe();
        drop(running.wait_for(|running| *running == requests).await);
    }
}

/// A request that is counted until it is answered or dropped.
struct Running<'a>(&'a Requests);

impl<'a> Running<'a> {
    fn new(requests: &'a Requests) -> Self {
        requests.running.send_modify(|running| {
            *running += 1;
            requests.most.fetch_max(*running, Ordering::SeqCst);
        });
        Self(requests)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}
