//! `dflock run`: a command that runs while a slot is held, and not else.

use std::io::{self, Write};
use std::process::ExitCode;

use dflock::Semaphore;

use crate::args::RunOptions;
use crate::job::Job;
use crate::line;
use crate::signals::Signals;
use crate::status::{self, Failure};

pub(crate) async fn run(options: RunOptions) -> Result<ExitCode, Failure> {
    // from before the wait, so that none is missed
    let mut signals = Signals::listen().map_err(|error| Failure::system("cannot listen for signals", &error))?;
    let client = options.servers.builder()?.fencing(options.fencing).build()?;
    let pool = Semaphore::builder().key(&options.key).limit(options.limit).client(client.clone());
    let pool = match options.lease {
        Some(lease) => pool.lease_ttl(lease).build()?,
        None => pool.build()?,
    };
    let held = tokio::select! {
        held = line::slot(pool, &client, options.timeout) => held?,
        signal = signals.next() => return Ok(status::of_signal(signal)),
    };

    let variables = [
        ("DFLOCK_KEY", Some(held.key().to_owned())),
        ("DFLOCK_TOKEN", Some(held.token().as_str().to_owned())),
        ("DFLOCK_FENCE", held.fence().map(|fence| fence.to_string())),
    ];
    let mut job = Job::start(&options.command, &variables).await?;
    let ended = loop {
        tokio::select! {
            biased;
            lost = held.lost() => {
                // before anything is said, which a terminal may hold up
                job.end(options.grace, &mut signals).await.map_err(|error| Failure::system("cannot wait for the command", &error))?;
                return Err(lost.into());
            }
            ended = job.wait() => break ended.map_err(|error| Failure::system("cannot wait for the command", &error))?,
            signal = signals.next() => job.pass_on(signal),
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
