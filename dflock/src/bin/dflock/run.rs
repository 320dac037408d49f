//! `dflock run`: a command that runs while a slot is held, and not else.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use dflock::{Crc32, Semaphore, Sharding};

use crate::args::RunOptions;
use crate::children::reap_orphans;
use crate::family::TOKEN;
use crate::guard::Guard;
use crate::job::{Ended, Job};
use crate::line;
use crate::process::Process;
use crate::signals::{InheritedMask, Signals};
use crate::status::{self, Failure};

/// The variable with the key of the innermost `dflock run` around the command.
const KEY: &str = "DFLOCK_KEY";

/// The variable with the keys of all of them, with spaces between them: no key has one in it.
const HELD_KEYS: &str = "DFLOCK_HELD_KEYS";

/// The warning on Linux where `Family` finds no processes.
const NO_PROC: &str = "/proc is not mounted, or is that of another namespace: when the slot is lost, \
                       only the command and its process group are ended";

/// How often the guard hears at least that the slot is still held.
const NEWS: Duration = Duration::from_secs(1);

pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    let not_heard = |error| Failure::system("cannot listen for signals", &error);
    // before any other thread is started, as each inherits the mask
    let mask = InheritedMask::unblock().map_err(not_heard)?;
    // from before the wait, so that none is missed
    let mut signals = Signals::listen().map_err(not_heard)?;
    let builder = options.servers.builder()?.fencing(options.fencing);
    let client = builder.clone().build()?;
    // what is asked while in line is asked of the key's server alone
    let index = Crc32.shard(&options.key, client.servers().count());
    let near = builder.servers(client.servers().nth(index)).build()?;
    let pool = Semaphore::builder()
        .key(&options.key)
        .limit(options.limit)
        .client(client);
    let pool = match options.lease {
        Some(lease) => pool.lease_ttl(lease).build()?,
        None => pool.build()?,
    };
    let outer_keys = outer_keys();
    let is_nested = outer_keys.split(' ').any(|key| key == options.key);
    let held = tokio::select! {
        held = line::slot(pool, &near, options.timeout, is_nested) => held?,
        received = signals.next() => return Ok(status::of_signal(received.signal)),
        never = reap_orphans() => match never {},
    };

    if cfg!(target_os = "linux") && Process::own().is_none() {
        // without a standard error there is no place to report that
        let _ = writeln!(io::stderr(), "dflock: warning: {NO_PROC}");
    }
    let variables = [
        (KEY, Some(held.key().to_owned())),
        (
            HELD_KEYS,
            Some(
                format!("{outer_keys} {}", held.key())
                    .trim_start()
                    .to_owned(),
            ),
        ),
        (TOKEN, Some(held.token().as_str().to_owned())),
        ("DFLOCK_FENCE", held.fence().map(|fence| fence.to_string())),
    ];
    let guard = Guard::start(held.token().as_str())
        .await
        .map_err(|error| Failure::system("cannot start a process", &error))?;
    // the machine may have been suspended since
    held.check()?;
    let left = || held.remaining().saturating_add(options.grace);
    let mut job = Job::start(guard, left, &options.command, &variables, &mask)?;
    let not_waited = |error| Failure::system("cannot wait for the command", &error);
    let ended = loop {
        job.allow(left());
        tokio::select! {
            biased;
            lost = held.lost() => {
                // before anything is said, which a terminal may hold up
                job.end(options.grace, &mut signals).await.map_err(not_waited)?;
                return Err(lost.into());
            }
            ended = job.wait() => match ended.map_err(not_waited)? {
                Ended::Command(status) => break status,
                Ended::Guard(status) => {
                    let lost = held.check();
                    job.end(options.grace, &mut signals).await.map_err(not_waited)?;
                    lost?;
                    return Err(Failure::system(
                        "the command was ended, because its watchdog process has ended",
                        &io::Error::other(status.to_string()),
                    ));
                }
            },
            received = signals.next() => job.pass_on(received),
            () = tokio::time::sleep(NEWS.min(held.remaining() / 4).max(Duration::from_millis(10))) => {}
        }
    };
    // it may have been lost while nobody looked
    held.check()?;
    job.leave().await;
    if let Err(error) = held.release().await {
        // the command has ended, and the server frees the slot in any case
        let _ = writeln!(io::stderr(), "dflock: {error}");
    }
    Ok(status::of_command(ended))
}

/// Returns the keys that each `dflock run` around this one holds a slot of, with spaces between
/// them.
fn outer_keys() -> String {
    let variable = |name| std::env::var(name).ok().filter(|keys| !keys.is_empty());
    variable(HELD_KEYS)
        .or_else(|| variable(KEY))
        .unwrap_or_default()
}
