//! What a program does when its slot is gone: it stops what the slot protects, and lines up again.
//!
//! `cargo run --example lease_lost`. The embedded server takes slots away on demand; on servers of your own, stop one to see it.

use std::process::ExitCode;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, Held, Lost, Semaphore};
use dflock_examples::Outcome;
use tokio::time::sleep;

/// What happens, in words and in deed.
type Fault = (&'static str, fn(&Server));

#[tokio::main]
async fn main() -> ExitCode {
    dflock_examples::finish(run().await)
}

async fn run() -> Outcome {
    let (client, servers) = dflock_examples::connect(1).await?;
    let import = Semaphore::builder()
        .key("import")
        .limit(1)
        .lease_ttl(Duration::from_secs(1))
        .on_lost(|lost: &Lost| println!("  on_lost: {}", lost.reason))
        .client(client)
        .build()?;

    println!("1. nothing happens");
    import_rows(&import).await?;
    let Some(server) = servers.first() else {
        return Ok(());
    };

    let faults: [Fault; 3] = [
        ("2. the connection is cut", |server| {
            server.faults().disconnect("import");
        }),
        ("3. the server ends the lease", |server| {
            _ = server.faults().expire("import");
        }),
        ("4. the server says nothing any more", |server| {
            server.faults().freeze();
        }),
    ];
    for (title, happens) in faults {
        println!("{title}");
        let trouble = async {
            sleep(Duration::from_millis(250)).await;
            happens(server);
            sleep(Duration::from_millis(1500)).await;
            server.faults().thaw();
            Ok::<_, Error>(())
        };
        tokio::try_join!(import_rows(&import), trouble)?;
    }
    Ok(())
}

/// Imports all rows, however often the slot is lost: what is written already is not written again.
async fn import_rows(import: &Semaphore) -> Result<(), Error> {
    let mut written = 0;
    loop {
        match import
            .with_slot(async |held| write_rows(&mut written, held).await)
            .await
        {
            Err(error) if error.is_lost() => {
                println!("  stopped after row {written}; lining up again");
            }
            outcome => return outcome?,
        }
    }
}

/// Dropped in the middle when the slot is lost, at an `.await`.
async fn write_rows(written: &mut u32, held: &Held) -> Result<(), Error> {
    while *written < 30 {
        // not only at an `.await`: just before what cannot be undone
        held.check()?;
        *written += 1;
        sleep(Duration::from_millis(50)).await;
    }
    println!("  all {written} rows are written");
    Ok(())
}
