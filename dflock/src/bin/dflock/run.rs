//! `dflock run`: a command that runs while a slot is held, and not else.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use dflock::{Crc32, Semaphore, Sharding};

use crate::args::RunOptions;
use crate::family::TOKEN;
use crate::guard::Guard;
use crate::job::Job;
use crate::line;
use crate::signals::Signals;
use crate::status::{self, Failure};

/// How often the guard hears at least that the slot is still held.
const NEWS: Duration = Duration::from_secs(1);

pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    // from before the wait, so that none is missed
    let mut signals = Signals::listen().map_err(|error| Failure::system("cannot listen for signals", &error))?;
    let builder = options.servers.builder()?.fencing(options.fencing);
    let client = builder.clone().build()?;
    // what is asked while in line is asked of the key's server alone
    let index = Crc32.shard(&options.key, client.servers().count());
    let near = builder.servers(client.servers().nth(index)).build()?;
    let pool = Semaphore::builder().key(&options.key).limit(options.limit).client(client);
    let pool = match options.lease {
        Some(lease) => pool.lease_ttl(lease).build()?,
        None => pool.build()?,
    };
    let held = tokio::select! {
        held = line::slot(pool, &near, options.timeout) => held?,
        signal = signals.next() => return Ok(status::of_signal(signal)),
    };

    let variables = [
        ("DFLOCK_KEY", Some(held.key().to_owned())),
        (TOKEN, Some(held.token().as_str().to_owned())),
        ("DFLOCK_FENCE", held.fence().map(|fence| fence.to_string())),
    ];
    let guard = Guard::start(held.token().as_str()).await.map_err(|error| Failure::system("cannot start a process", &error))?;
    // the machine may have been suspended since
    held.check()?;
    let left = || held.remaining().saturating_add(options.grace);
    let mut job = Job::start(guard, left, &options.command, &variables)?;
    let ended = loop {
        job.allow(left());
        tokio::select! {
            biased;
            lost = held.lost() => {
                // before anything is said, which a terminal may hold up
                job.end(options.grace, &mut signals).await.map_err(|error| Failure::system("cannot wait for the command", &error))?;
                return Err(lost.into());
            }
            ended = job.wait() => break ended.map_err(|error| Failure::system("cannot wait for the command", &error))?,
            signal = signals.next() => job.pass_on(signal),
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
