//! `dflock run`: runs a command for as long as a slot is held.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use dflock::cli_support::{cluster, shut_down};
use dflock::{Client, Crc32, Semaphore, Sharding};

use crate::args::RunOptions;
use crate::child::{ChildCommand, ChildEvent};
use crate::error::CliError;
use crate::exit_code;
use crate::message::message;
use crate::proc::{Process, in_foreground};
use crate::reaper::reap_orphans;
use crate::signals::{InheritedMask, Signals};
use crate::wait;
use crate::warning::warn;
use crate::watchdog::Watchdog;

/// The variable with the key of the innermost enclosing `dflock run`.
const KEY_VARIABLE: &str = "DFLOCK_KEY";

/// The variable with the keys of all enclosing `dflock run`, separated by spaces. A key has no
/// white space.
const HELD_KEYS_VARIABLE: &str = "DFLOCK_HELD_KEYS";

/// The warning on Linux if `ProcessTree` cannot find processes.
const NO_PROC_WARNING: &str = "/proc is not mounted, or belongs to another PID namespace: when the \
                               slot is lost, only the command and its process group are terminated";

/// The longest wait that the library accepts.
const MAX_WAIT: Duration = Duration::from_secs(9_223_372_036);

/// Maximum time between two heartbeats to the watchdog.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two heartbeats, however little of the lease is left.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, CliError> {
    let no_signals = |error| CliError::system("cannot listen for signals", &error);
    // Before any other thread is started: each thread inherits the mask.
    let mask = InheritedMask::unblock().map_err(no_signals)?;
    // Before the wait for the slot, so that no signal is missed.
    let signals = Signals::listen().map_err(no_signals)?;
    let replaced = options
        .on_limit_mismatch
        .map(|_| "DFLOCK_ON_LIMIT_MISMATCH");
    let builder = options
        .client
        .builder_without(replaced)?
        .fencing(options.fencing);
    let builder = match options.on_limit_mismatch {
        Some(on_limit_mismatch) => builder.on_limit_mismatch(on_limit_mismatch),
        None => builder,
    };
    let client = builder.clone().build()?;
    // Progress needs the statistics of the key's own server only.
    let shard_client = if cluster(&client).is_some() {
        client.clone()
    } else {
        let index = Crc32.shard(&options.key, client.servers().count());
        builder.servers(client.servers().nth(index)).build()?
    };
    let exit_code = run_on(&client, &shard_client, options, mask, signals).await;
    // The end of this process would end the thread that frees the slots of an etcd cluster.
    shut_down(&client).await;
    exit_code
}

/// Acquires the slot and runs the command. `shard_client` has only the server of the key.
async fn run_on(
    client: &Client,
    shard_client: &Client,
    options: RunOptions,
    mask: InheritedMask,
    mut signals: Signals,
) -> Result<ExitCode, CliError> {
    let no_wait = |error| CliError::system("cannot wait for the command", &error);
    let mut semaphore = Semaphore::builder()
        .key(&options.key)
        .limit(options.limit)
        // The time for `--on-limit-mismatch wait-out`.
        .acquire_timeout(options.timeout.unwrap_or(MAX_WAIT).min(MAX_WAIT))
        .client(client.clone());
    if let Some(lease) = options.lease {
        semaphore = semaphore.lease_ttl(lease);
    }
    if let Some(max_hold) = options.max_hold {
        semaphore = semaphore.max_hold(max_hold);
    }
    if let Some(min_hold) = options.min_hold {
        semaphore = semaphore.min_hold(min_hold);
    }
    let semaphore = semaphore.build()?;
    let outer_keys = outer_keys();
    let is_nested = outer_keys.split(' ').any(|key| key == options.key);
    let acquire = async {
        let permits = options.permits;
        if options.skip {
            wait::try_acquire(semaphore, permits).await
        } else if permits != 1 {
            let (client, timeout) = (&shard_client, options.timeout);
            let held = wait::acquire_many(semaphore, permits, client, timeout, is_nested).await;
            held.map(Some)
        } else {
            let held = wait::acquire(semaphore, shard_client, options.timeout, is_nested).await;
            held.map(Some)
        }
    };
    let held = tokio::select! {
        held = acquire => match held? {
            Some(held) => held,
            None => return Ok(ExitCode::SUCCESS),
        },
        received = signals.next() => return Ok(exit_code::from_signal(received.signal)),
        never = reap_orphans() => match never {},
    };
    let acquired_at = tokio::time::Instant::now();

    if held.limit() != options.limit {
        warn(&format!(
            "{:?} is in use with the limit {}, not {}, so that limit applies to this run as well",
            held.key(),
            held.limit(),
            options.limit
        ));
    }
    if cfg!(target_os = "linux") && Process::current().is_none() {
        warn(NO_PROC_WARNING);
    }
    let held_keys = format!("{outer_keys} {}", held.key());
    let variables = [
        (KEY_VARIABLE, Some(held.key().to_owned())),
        (HELD_KEYS_VARIABLE, Some(held_keys.trim_start().to_owned())),
        ("DFLOCK_TOKEN", Some(held.token().as_str().to_owned())),
        ("DFLOCK_FENCE", held.fence().map(|fence| fence.to_string())),
    ];
    let foreground = in_foreground();
    let watchdog = tokio::select! {
        biased;
        // As during the wait. The terminal sends the signal of a key to the watchdog only if that
        // runs already, so a key that was pressed before would have no effect.
        received = signals.next() => return Ok(exit_code::from_signal(received.signal)),
        watchdog = Watchdog::start(&options.command, &variables, &mask, !foreground) => watchdog?,
    };
    // The machine may have been suspended since the slot was granted.
    held.check()?;
    let time_left = || held.remaining().saturating_add(options.grace);
    let mut child = match ChildCommand::start(watchdog, foreground, time_left).await {
        Ok(child) => child,
        Err(error) => {
            held.check()?;
            return Err(error);
        }
    };
    let exit_status = loop {
        child.extend_deadline(time_left());
        let heartbeat = HEARTBEAT_INTERVAL
            .min(held.remaining() / 4)
            .max(MIN_HEARTBEAT_INTERVAL);
        tokio::select! {
            biased;
            lost = held.lost() => {
                // Terminate before the error is printed, because a terminal may block the output.
                child.terminate(options.grace, &mut signals).await;
                return Err(lost.into());
            }
            event = child.wait() => match event.map_err(no_wait)? {
                ChildEvent::CommandEnded(exit_status) => break exit_status,
                ChildEvent::WatchdogEnded(exit_status) => {
                    let lost = held.check();
                    child.terminate(options.grace, &mut signals).await;
                    lost?;
                    return Err(CliError::system(
                        "the command was terminated, because its watchdog process has ended",
                        &io::Error::other(exit_status.to_string()),
                    ));
                }
            },
            received = signals.next() => child.forward(received),
            () = tokio::time::sleep(heartbeat) => {}
        }
    };
    // The slot may have been lost since the last poll of `lost`.
    held.check()?;
    child.detach().await;
    if let Some(min_hold) = options.min_hold {
        // The end of this process would free the slot.
        let left = min_hold.saturating_sub(acquired_at.elapsed());
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            _ = held.lost() => return Ok(exit_code::from_status(exit_status)),
            _ = signals.next() => {}
            never = reap_orphans() => match never {},
        }
    }
    if let Err(error) = held.release().await {
        // Not an error of the run: the command has ended, and the server frees the slot anyway.
        warn(&message(&error));
    }
    Ok(exit_code::from_status(exit_status))
}

/// Returns the keys of all enclosing `dflock run`, separated by spaces.
fn outer_keys() -> String {
    let variable = |name| std::env::var(name).ok().filter(|keys| !keys.is_empty());
    variable(HELD_KEYS_VARIABLE)
        .or_else(|| variable(KEY_VARIABLE))
        .unwrap_or_default()
}
