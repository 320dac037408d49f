//! The soak from its start to its end.

use std::net::SocketAddr;
use std::time::Duration;

use dflock::Client;
use dflock_tests::fleet::Outcome;
use dflock_tests::fleet::clock::now;
use dflock_tests::fleet::server::Recipe;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fault::Kind;
use crate::key::KEYS;
use crate::probe::Probe;
use crate::report::Report;
use crate::timeline::Book;
use crate::victim::{Host, Victim};
use crate::pulse;

/// How long all is calm in the end: whatever the last faults did to the server shows in it.
const CALM: Duration = Duration::from_secs(2);

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
    let mut host = Host::start(plan.server.clone(), &book).await?;
    let mut victims = Vec::new();
    for index in 0..plan.clients {
        let seed = plan.seed.wrapping_add(1000 * index as u64);
        victims.push(Victim::start(index, host.addr(), plan.told, seed, &book).await?);
    }
    let mut others = JoinSet::new();
    let pulse = book.clone();
    others.spawn(pulse::watch(move |away| pulse.open().aways.push((None, away))));
    for (key, about) in KEYS.iter().enumerate() {
        others.spawn(Probe { client: plan.clients + key, key, about, book: book.clone() }.run(host.addr()));
    }

    let mut deck = Deck::new(plan.seed);
    let end = began + plan.length.saturating_sub(CALM);
    while now() < end {
        victims = round(&mut deck, victims, &mut host, end).await?;
    }
    sleep(CALM).await;

    let addr = *host.addr().borrow();
    others.shutdown().await;
    for victim in victims {
        victim.end().await?;
    }
    let killed = now();
    let left = left_when_free(addr).await?;
    let freed = now() - killed;
    let timeline = book.open();
    let report = Report::new(&plan, killed - began, &timeline, left, freed);
    println!("{report}");
    Ok(report.is_good())
}

/// One fault for some of the clients, at times one for the server, too, and then none for a while; it is over at `end`.
async fn round(deck: &mut Deck, victims: Vec<Victim>, host: &mut Host, end: Duration) -> Outcome<Vec<Victim>> {
    let mut hit = JoinSet::new();
    for mut victim in victims {
        let fault = deck.dice.random_bool(0.6).then(|| (deck.wait(), deck.client(), deck.length()));
        hit.spawn(async move {
            if let Some((wait, kind, length)) = fault {
                sleep(wait).await;
                victim.suffer(kind, length.min(left(end))).await?;
            }
            Outcome::Ok(victim)
        });
    }
    deck.rounds += 1;
    if deck.rounds % 3 == 2 {
        let (wait, kind, length) = (deck.wait(), deck.server(), deck.length());
        sleep(wait).await;
        host.suffer(kind, length.min(left(end))).await?;
    }
    let mut victims = hit.join_all().await.into_iter().collect::<Outcome<Vec<_>>>()?;
    // their order is of no matter to them, but to what the seed means
    victims.sort_by_key(Victim::index);
    let calm = deck.dice.random_bool(0.5);
    let calm = Duration::from_millis(deck.dice.random_range(if calm { 1000..2500 } else { 0..300 }));
    sleep(calm.min(left(end))).await;
    Ok(victims)
}

fn left(end: Duration) -> Duration {
    end.saturating_sub(now())
}

/// The faults that are to come: all kinds come, in an order that the seed decides.
struct Deck {
    dice: StdRng,
    rounds: u64,
    clients: Vec<Kind>,
    servers: Vec<Kind>,
}

impl Deck {
    fn new(seed: u64) -> Self {
        Self { dice: StdRng::seed_from_u64(seed), rounds: 0, clients: Vec::new(), servers: Vec::new() }
    }

    fn client(&mut self) -> Kind {
        draw(&mut self.clients, &mut self.dice, Kind::is_clients)
    }

    fn server(&mut self) -> Kind {
        draw(&mut self.servers, &mut self.dice, |kind| !kind.is_clients())
    }

    fn wait(&mut self) -> Duration {
        Duration::from_millis(self.dice.random_range(0..300))
    }

    /// Shorter than any lease, or longer than the leases of most keys.
    fn length(&mut self) -> Duration {
        let long = self.dice.random_bool(0.5);
        Duration::from_micros(self.dice.random_range(if long { 1_000_000..4_500_000 } else { 20_000..600_000 }))
    }
}

fn draw(cards: &mut Vec<Kind>, dice: &mut StdRng, wanted: fn(Kind) -> bool) -> Kind {
    loop {
        if let Some(kind) = cards.pop() {
            return kind;
        }
        cards.extend(Kind::ALL.into_iter().filter(|&kind| wanted(kind)));
        cards.shuffle(dice);
    }
}

/// How many slots the server says are held although nobody is there, when none is or its time is over.
async fn left_when_free(server: SocketAddr) -> Outcome<u64> {
    let client = Client::builder().servers([server.to_string()]).build()?;
    let end = now() + FREE;
    loop {
        let mut held = 0;
        for stats in client.stats().await? {
            held += stats.semaphores.iter().map(|semaphore| semaphore.holders).sum::<u64>();
            // older servers list a semaphore of 1 as a lock
            held += stats.locks.iter().map(|lock| u64::from(lock.owner_conn_id != 0)).sum::<u64>();
        }
        if held == 0 || now() > end {
            return Ok(held);
        }
        sleep(LOOK).await;
    }
}
