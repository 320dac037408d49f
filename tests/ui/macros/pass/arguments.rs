//! All arguments in all forms.
#![deny(warnings)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dflock::{Client, Error};

mod my_reexport {
    pub use dflock::*;
}

const PREFIX: &str = "report";
const LIMIT: u32 = 3;
static LOCKS: LazyLock<Client> = LazyLock::new(|| Client::builder().build().unwrap());

struct AppError;

impl From<Error> for AppError {
    fn from(_: Error) -> Self {
        Self
    }
}

struct Shop {
    region: String,
    limit: u32,
    locks: Arc<Client>,
    patience: Duration,
}

struct Order {
    id: u64,
}

impl Shop {
    #[dflock::semaphore(
        key = format!("{}:{}", self.region, order.id),
        limit = self.limit,
        client = self.locks,
        acquire_timeout = "2s", lease_ttl = "30s",
        renew_ratio = 0.4,
        on_lost = cancel,
        slot = held,
        crate = my_reexport,
    )]
    pub async fn ship(&self, order: &Order) -> anyhow::Result<()> {
        let held: &dflock::Held = held;
        println!("{:?} {:?}", held.token(), held.fence());
        held.check()?;
        held.run(async {}).await?;
        held.lost().await;
        Ok(())
    }

    #[dflock::semaphore(
        crate = crate::my_reexport,
        slot = _held,
        on_lost = finish,
        renew_ratio = f64::from(order.id as u32) / 10.0,
        lease_ttl = Duration::from_secs(30),
        acquire_timeout = self.patience,
        client = LOCKS, limit = LIMIT,
        key = "{PREFIX}:{{{}}}".replace("{}", "x")
    )]
    async fn in_reverse_order(&self, order: &Order) -> Result<(), AppError> {
        Ok(())
    }
}

#[dflock::semaphore(
    key = "{PREFIX}:{{{tenant:>8}}}:{day:02}:{tenant:?}:{ratio:.width$}",
    limit = 1_000
)]
async fn specs(tenant: &str, day: u8, ratio: f64, width: usize) -> Result<(), Error> {
    Ok(())
}

#[dflock::semaphore(
    key = "braces:{{}}",
    limit = 0x10u32,
    acquire_timeout = "500ms",
    lease_ttl = "1h30m"
)]
async fn literals() -> Result<(), Error> {
    Ok(())
}

#[dflock::lock(
    key = r#"raw:{self_:?}"#,
    client = Client::current()?,
    acquire_timeout = timeout().await
)]
async fn awaited_argument(self_: &str) -> Result<(), Error> {
    Ok(())
}

async fn timeout() -> Duration {
    Duration::from_millis(500)
}

// Names in the expansion do not capture those of the user.
#[dflock::lock(key = "{built}:{held}:{never}")]
async fn hygiene(built: u8, held: u8, never: u8) -> Result<u8, Error> {
    struct Semaphore;
    let _ = Semaphore;
    Ok(built + held + never)
}

// rustfmt indents the attribute further each time.
#[rustfmt::skip]
macro_rules! named {
    ($name:ident, $slot:ident, $on_lost:ident, $wait:literal, $ratio:expr, $client:expr) => {
        #[dflock::lock(
            key = "named",
            slot = $slot,
            on_lost = $on_lost,
            acquire_timeout = $wait,
            renew_ratio = $ratio,
            client = $client,
            crate = $crate::my_reexport
        )]
        async fn $name() -> Result<bool, Error> {
            Ok($slot.is_lost())
        }
    };
}
named!(by_a_macro, mine, finish, "2s", 0.1 + 0.2, &&*LOCKS);

mod imported {
    use dflock::{lock, semaphore};

    #[semaphore(key = "imported", limit = 1, slot = held)]
    pub async fn pool() -> Result<String, dflock::Error> {
        Ok(held.key().to_owned())
    }

    #[lock(key = "imported", slot = held)]
    pub async fn lock_of_key() -> Result<String, dflock::Error> {
        Ok(held.key().to_owned())
    }
}

mod nothing_in_scope {
    #![no_implicit_prelude]

    #[::dflock::lock(key = "bare:{core}", slot = held, acquire_timeout = "1s")]
    pub async fn bare(core: u8, std: u8, dflock: u8) -> ::std::result::Result<u8, ::dflock::Error> {
        mod core {}
        ::std::result::Result::Ok(std + dflock + held.key().len() as u8 + core)
    }
}

fn main() {
    drop(by_a_macro());
    drop(imported::pool());
    drop(imported::lock_of_key());
    drop(specs("", 1, 1.0, 2));
    drop(literals());
    drop(awaited_argument(""));
    drop(hygiene(1, 2, 3));
    drop(nothing_in_scope::bare(1, 2, 3));
    let shop = Shop {
        region: String::new(),
        limit: 1,
        locks: Arc::new(LOCKS.clone()),
        patience: Duration::ZERO,
    };
    drop(shop.ship(&Order { id: 1 }));
    drop(shop.in_reverse_order(&Order { id: 1 }));
}
