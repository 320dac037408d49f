//! Decisions that a seed makes before anything runs.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use dflock::{Crc32, Sharding};

use super::rng::Rng;

/// Addresses that are given to the clients. The seed decides how many of them are used.
pub(super) const SERVERS: [&str; 3] = ["shard-0:6388", "shard-1:6388", "shard-2:6388"];

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Time during which the actors start new operations.
    pub(super) length: Duration,
    pub(super) auto_release: bool,
    pub(super) read_timeout: Duration,
    pub(super) sweep: Duration,
    /// True if `is_lost` is polled at each event. Polling may wake a client, so half of the seeds
    /// do without it.
    pub(super) polls_is_lost: bool,
    /// Number of servers.
    pub(super) servers: usize,
    pub(super) keys: Vec<Key>,
    /// Gates of the semaphores, which callers of several permits acquire.
    pub(super) gates: Vec<Key>,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) faults: Vec<ScheduledFault>,
}

/// A key that the clients share.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) limit: u32,
    pub(super) is_lock: bool,
    /// Shortest hold; the same for all clients.
    pub(super) min_hold: Option<Duration>,
    /// Index of the server that owns the key.
    pub(super) shard: usize,
}

#[derive(Debug)]
pub(super) struct ClientPlan {
    /// Microseconds that the client's clock advances in one second of the server's clock.
    pub(super) per_million: u32,
    pub(super) up: RangeInclusive<u64>,
    pub(super) down: RangeInclusive<u64>,
    pub(super) heartbeat: Duration,
    pub(super) socket_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) renew_ratio: f64,
    /// Leases, one for each key.
    pub(super) leases: Vec<Duration>,
    /// Longest holds, one for each key.
    pub(super) max_holds: Vec<Option<Duration>>,
    pub(super) actors: u64,
    /// Time at which the program closes the client.
    pub(super) close_at: Option<Duration>,
}

/// A fault that starts at `at` and lasts for `lasts`.
#[derive(Debug)]
pub(super) struct ScheduledFault {
    pub(super) at: Duration,
    pub(super) duration: Duration,
    pub(super) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Packets of a client are held back in one or both directions. New connections do not succeed.
    Partition {
        client: usize,
        up: bool,
        down: bool,
    },
    /// Packets of one connection of a client are held back in one or both directions.
    HalfOpen {
        client: usize,
        up: bool,
        down: bool,
    },
    /// One or all connections of a client are reset at both ends.
    Reset {
        client: usize,
        all: bool,
    },
    /// The program of the client does not run.
    Busy {
        client: usize,
    },
    /// Time passes, and no program runs.
    Jump,
    /// The process of the server is suspended and resumed.
    Freeze {
        shard: usize,
    },
    /// The server loses all its state and starts again empty.
    Restart {
        shard: usize,
    },
    DelayReplies {
        shard: usize,
        delay: Duration,
    },
    Refuse {
        shard: usize,
    },
    Disconnect {
        key: usize,
    },
    DisconnectAll {
        shard: usize,
    },
    Expire {
        key: usize,
    },
}

impl Fault {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Partition {
                up: true,
                down: true,
                ..
            } => "partition",
            Self::Partition { .. } => "one-way partition",
            Self::HalfOpen {
                up: true,
                down: true,
                ..
            } => "frozen connection",
            Self::HalfOpen { .. } => "half-open connection",
            Self::Reset { .. } => "reset",
            Self::Busy { .. } => "busy client",
            Self::Jump => "time jump",
            Self::Freeze { .. } => "frozen server",
            Self::Restart { .. } => "server restart",
            Self::DelayReplies { .. } => "delayed replies",
            Self::Refuse { .. } => "refused connections",
            Self::Disconnect { .. } => "server disconnects a key",
            Self::DisconnectAll { .. } => "server disconnects all",
            Self::Expire { .. } => "lease ended early",
        }
    }

    fn is_lasting(&self) -> bool {
        !matches!(
            self,
            Self::Reset { .. }
                | Self::Disconnect { .. }
                | Self::DisconnectAll { .. }
                | Self::Expire { .. }
        )
    }
}

/// Rates of the clients' clocks. They differ from the server's by just under 1 %, so that rounding
/// never exceeds the permitted drift.
const RATES: RangeInclusive<u64> = 990_010..=1_009_990;

/// Returns the longest time in which `time` passes on the clock of a client.
pub(super) fn slow_clock(time: Duration) -> Duration {
    time.mul_f64(1.0102)
}

/// Returns the shortest time in which `time` passes on the clock of a client.
pub(super) fn fast_clock(time: Duration) -> Duration {
    time.mul_f64(0.9899)
}

/// Delays of replies, in milliseconds.
pub(super) const DELAYS: RangeInclusive<u64> = 20..=3000;

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let (mut rng, mut hold_rng) = (Rng::new(seed, 0), Rng::new(seed, 3));
        let read_timeout = Duration::from_secs(rng.pick(&[2, 3, 5, 8, 8, 23]));
        let auto_release = rng.percent(75);
        let servers = rng.pick(&[1, 1, 2, 3]);
        let mut keys: Vec<_> = (0..rng.range(1..=3))
            .map(|number| Key::new(&mut rng, &mut hold_rng, number, servers))
            .collect();
        let mut permit_rng = Rng::new(seed, 4);
        for key in keys.iter_mut().filter(|key| !key.is_lock) {
            if permit_rng.percent(40) {
                key.limit = permit_rng.pick(&[2, 3, 3, 4]);
            }
        }
        let gates = keys.iter().filter(|key| !key.is_lock).map(Key::gate);
        let gates = gates.collect();
        let longest = if auto_release { 7200 } else { 90 };
        let count = rng.range(2..=5);
        let slow = rng.percent(30);
        let mut clients: Vec<_> = (0..count)
            .map(|_| {
                let rngs = (&mut rng, &mut hold_rng);
                ClientPlan::new(rngs, read_timeout, &keys, longest, slow)
            })
            .collect();
        let length = Duration::from_secs(rng.range(40..=100));
        let mut close_rng = Rng::new(seed, 4);
        if close_rng.percent(40) {
            let closing = close_rng.index(clients.len());
            let percent = u32::try_from(close_rng.range(10..=90)).expect("a percentage");
            clients[closing].close_at = Some(length * percent / 100);
        }
        let polls_is_lost = rng.percent(50);
        let sweep = Duration::from_millis(rng.pick(&[10, 10, 10, 50, 200, 1000]));
        let mut faults = Vec::new();
        // One seed in eight has no faults: there no slot may be lost and no operation may fail.
        if !rng.percent(12) {
            let pause = rng.pick(&[2000, 4000, 8000, 16_000]);
            let mut at = rng.millis(0..=pause);
            while at < length {
                faults.push(ScheduledFault::new(
                    &mut rng,
                    at,
                    clients.len(),
                    &keys,
                    read_timeout,
                ));
                at += rng.millis(0..=2 * pause);
            }
        }
        Self {
            seed,
            length,
            auto_release,
            read_timeout,
            sweep,
            polls_is_lost,
            servers,
            keys,
            gates,
            clients,
            faults,
        }
    }

    /// Returns the key or gate with this name.
    pub(super) fn key(&self, name: &str) -> &Key {
        self.keys
            .iter()
            .chain(&self.gates)
            .find(|key| key.name == name)
            .expect("clients use planned keys only")
    }

    /// Returns the longest latency of a packet.
    pub(super) fn longest_latency(&self) -> Duration {
        Duration::from_millis(
            self.clients
                .iter()
                .map(|client| *client.up.end().max(client.down.end()))
                .max()
                .unwrap_or_default(),
        )
    }

    /// Returns the longest time for which a slot that was given up stays taken.
    pub(super) fn longest_min_hold(&self) -> Duration {
        let min_holds = self.keys.iter().filter_map(|key| key.min_hold);
        slow_clock(min_holds.max().unwrap_or_default())
    }

    /// Returns the longest hold of this client and key.
    pub(super) fn max_hold(&self, client: usize, name: &str) -> Option<Duration> {
        let index = self.keys.iter().position(|key| key.name == name);
        self.clients[client].max_holds[index.expect("clients use planned keys only")]
    }

    /// Returns the longest lease of all clients.
    pub(super) fn longest_lease(&self) -> Duration {
        self.clients
            .iter()
            .flat_map(|client| &client.leases)
            .copied()
            .max()
            .unwrap_or_default()
    }
}

impl Key {
    fn new(rng: &mut Rng, hold_rng: &mut Rng, number: u64, servers: usize) -> Self {
        let is_lock = rng.percent(30);
        // The random number spreads the keys over the servers.
        let name = format!(
            "{}-{number}-{}",
            if is_lock { "lock" } else { "pool" },
            rng.range(0..=99)
        );
        let limit = if is_lock {
            1
        } else {
            rng.pick(&[1, 1, 1, 2, 3])
        };
        Self {
            shard: Crc32.shard(&name, servers),
            name,
            limit,
            is_lock,
            min_hold: hold_rng
                .percent(30)
                .then(|| hold_rng.log_uniform(50..=20_000)),
        }
    }

    /// Returns the gate of a semaphore.
    fn gate(&self) -> Self {
        Self {
            name: gate(&self.name),
            limit: 1,
            is_lock: false,
            min_hold: None,
            shard: self.shard,
        }
    }
}

/// Returns the name of the gate of the semaphore `key`.
pub(super) fn gate(key: &str) -> String {
    format!("dflock.gate:{key}")
}

impl ClientPlan {
    fn new(
        (rng, hold_rng): (&mut Rng, &mut Rng),
        read_timeout: Duration,
        keys: &[Key],
        longest: u64,
        slow: bool,
    ) -> Self {
        let (up, down) = match rng.range(0..=9) {
            0 | 1 => (0..=0, 0..=0),
            2..=4 if slow => (0..=20, 50..=400),
            5 | 6 if slow => (30..=250, 0..=250),
            _ => (0..=20, 0..=20),
        };
        // Half of the clocks run at the slow limit, where rounding and margins matter most. A slow
        // clock makes a client hold on too long; a fast one makes it give up early.
        let rate = match rng.range(0..=9) {
            0..=4 => *RATES.start(),
            5 | 6 => *RATES.end(),
            _ => rng.range(RATES),
        };
        let leases = keys.iter().map(|_| match rng.range(0..=9) {
            0..=2 => 1,
            3..=5 => rng.range(2..=6),
            6..=7 => rng.range(7..=60),
            _ => rng.range(60..=longest),
        });
        let leases: Vec<_> = leases.map(Duration::from_secs).collect();
        let max_holds = keys.iter().zip(&leases).map(|(key, lease)| {
            let shortest = key.min_hold.unwrap_or_default().max(*lease);
            hold_rng
                .percent(30)
                .then(|| shortest + hold_rng.log_uniform(1000..=20_000))
        });
        Self {
            max_holds: max_holds.collect(),
            per_million: u32::try_from(rate).expect("about a million"),
            up,
            down,
            leases,
            heartbeat: read_timeout.mul_f64(rng.pick(&[0.15, 0.33, 0.33, 0.5, 0.7])),
            socket_timeout: Duration::from_secs(rng.pick(&[1, 2, 5])),
            connect_timeout: Duration::from_secs(rng.pick(&[1, 5])),
            renew_ratio: rng.pick(&[0.1, 0.3, 0.5, 0.5, 0.5, 0.8, 0.99]),
            actors: rng.range(1..=3),
            close_at: None,
        }
    }
}

impl ScheduledFault {
    fn new(
        rng: &mut Rng,
        at: Duration,
        clients: usize,
        keys: &[Key],
        read_timeout: Duration,
    ) -> Self {
        let (client, key) = (rng.index(clients), rng.index(keys.len()));
        // Servers without keys are not worth a fault.
        let shard = keys[rng.index(keys.len())].shard;
        let (up, down) = rng.pick(&[(true, true), (true, false), (false, true)]);
        let fault = match rng.range(0..=99) {
            0..=21 => Fault::Partition { client, up, down },
            22..=39 => Fault::HalfOpen { client, up, down },
            40..=47 => Fault::Reset {
                client,
                all: rng.percent(50),
            },
            48..=57 => Fault::Busy { client },
            58..=65 => Fault::Jump,
            66..=73 => Fault::Freeze { shard },
            74..=77 => Fault::Restart { shard },
            78..=87 => Fault::DelayReplies {
                shard,
                delay: rng.log_uniform(DELAYS),
            },
            88..=90 => Fault::Refuse { shard },
            91..=94 => Fault::Disconnect { key },
            95 => Fault::DisconnectAll { shard },
            _ => Fault::Expire { key },
        };
        // Close to the times that matter: a round trip, a short lease and the read timeout.
        let longest = u64::try_from(read_timeout.as_millis()).expect("seconds") * 3 / 2 + 2000;
        let duration = match fault {
            Fault::Jump => rng.log_uniform(20..=6000),
            _ if fault.is_lasting() => rng.log_uniform(50..=longest),
            _ => Duration::ZERO,
        };
        Self {
            at,
            duration,
            fault,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            length,
            auto_release,
            read_timeout,
            sweep,
            polls_is_lost,
            servers,
            keys,
            gates: _,
            clients,
            faults,
        } = self;
        writeln!(
            f,
            "seed {seed}: {length:?}, auto-release {auto_release}, read timeout {read_timeout:?}, \
             sweep {sweep:?}, polls is_lost {polls_is_lost}"
        )?;
        writeln!(f, "  {servers} servers, keys {keys:?}")?;
        for (index, client) in clients.iter().enumerate() {
            writeln!(f, "  client {index}: {client:?}")?;
        }
        for ScheduledFault {
            at,
            duration,
            fault,
        } in faults
        {
            writeln!(
                f,
                "  {:10.3} s for {:6.3} s: {fault:?}",
                at.as_secs_f64(),
                duration.as_secs_f64()
            )?;
        }
        Ok(())
    }
}
