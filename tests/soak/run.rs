//! The soak from its start to its end.

use std::net::SocketAddr;
use std::time::Duration;

use dflock::Client;
use dflock_tests::fleet::Outcome;
use dflock_tests::fleet::clock::{now, since};
use dflock_tests::fleet::server::Recipe;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::key::KEYS;
use crate::probe::Probe;
use crate::pulse;
use crate::report::Report;
use crate::timeline::Book;
use crate::victim::{Host, Victim};

/// How long there are faults before all is calm for a while.
const SPELL: Duration = Duration::from_secs(7);

/// For how long: the leaks that the faults left show in it.
const CALM: Duration = Duration::from_millis(1500);

/// How long the server may take to free the slots of clients that were killed.
const FREE: Duration = Duration::from_secs(1);

/// The pause between two looks at what is left.
const LOOK: Duration = Duration::from_millis(1);

/// What to do.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) server: Recipe,
    /// The read timeout that the clients are told.
    pub(crate) told: Duration,
}

/// Whether all went well.
pub(crate) async fn run(plan: Plan) -> Outcome<bool> {
    let book = Book::default();
    let began = now();
    let mut host = Host::start(plan.server.clone(), plan.seed, &book).await?;
    let mut victims = Vec::new();
    for index in 0..plan.clients {
        let seed = plan.seed.wrapping_add(1000 * index as u64);
        victims.push(Victim::start(index, host.addr(), plan.told, seed, &book).await?);
    }
    let mut others = JoinSet::new();
    let pulse = book.clone();
    others.spawn(pulse::watch(move |away| {
        pulse.open().aways.push((None, away));
    }));
    for (key, about) in KEYS.iter().enumerate() {
        others.spawn(
            Probe {
                client: plan.clients + key,
                key,
                about,
                book: book.clone(),
            }
            .run(host.addr()),
        );
    }

    let end = began + plan.length.saturating_sub(CALM);
    while now() < end {
        let mut pause = now() + SPELL;
        // the rest of the time is no spell of its own
        if pause + CALM + SPELL / 2 > end {
            pause = end;
        }
        let mut faults = JoinSet::new();
        for mut victim in victims {
            faults.spawn(async move { victim.suffer_until(pause).await.map(|()| victim) });
        }
        host.suffer_until(pause).await?;
        victims = faults
            .join_all()
            .await
            .into_iter()
            .collect::<Outcome<Vec<_>>>()?;
        sleep(CALM).await;
    }

    let addr = *host.addr().borrow();
    others.shutdown().await;
    for victim in victims {
        victim.end().await?;
    }
    let killed = now();
    let left = left_when_free(addr).await?;
    let freed = since(killed);
    let mut timeline = book.open();
    let unstopped = timeline.unstopped();
    timeline.complaints.extend(unstopped);
    let report = Report::new(&plan, killed.saturating_sub(began), &timeline, left, freed);
    println!("{report}");
    Ok(report.is_good())
}

/// How many slots the server says are held although nobody is there, when none is or its time is over.
async fn left_when_free(server: SocketAddr) -> Outcome<u64> {
    let client = Client::builder().servers([server.to_string()]).build()?;
    let end = now() + FREE;
    loop {
        let mut held = 0;
        for stats in client.stats().await? {
            held += stats
                .semaphores
                .iter()
                .map(|semaphore| semaphore.holders)
                .sum::<u64>();
            // older servers list a semaphore of 1 as a lock
            held += stats
                .locks
                .iter()
                .map(|lock| u64::from(lock.owner_conn_id != 0))
                .sum::<u64>();
        }
        if held == 0 || now() > end {
            return Ok(held);
        }
        sleep(LOOK).await;
    }
}
