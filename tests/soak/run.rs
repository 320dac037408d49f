//! Course of a soak run.

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

/// Duration of faults between two pauses.
const SPELL: Duration = Duration::from_secs(7);

/// Duration of a pause without faults, in which leaks become visible.
const CALM: Duration = Duration::from_millis(1500);

/// Time in which the server must free the slots of killed clients.
const FREE: Duration = Duration::from_secs(1);

/// Interval between two requests for the statistics.
const LOOK: Duration = Duration::from_millis(1);

/// Settings of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) clients: usize,
    pub(crate) server: Recipe,
    /// Read timeout that the clients assume.
    pub(crate) told: Duration,
}

/// Runs the soak. Returns whether it passed.
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
        // A rest that is too short for another round of faults is added to this one.
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

/// Returns the number of slots that the server still lists as held: 0 as soon as none is, otherwise
/// their number when the time is over.
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
            // Older servers list a semaphore with a limit of 1 as a lock.
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
