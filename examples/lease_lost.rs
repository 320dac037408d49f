//! Reaction to a lost slot: the program stops the protected work and acquires a slot again.
//!
//! `cargo run --example lease_lost`. The embedded server injects the faults. With other servers,
//! stop one of them to cause a loss.

use std::process::ExitCode;
use std::time::Duration;

use dflock::server::Server;
use dflock::{Error, Held, Lost, Semaphore};
use dflock_examples::Outcome;
use tokio::time::sleep;

/// A fault: its title, and the function that injects it.
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

    println!("1. no fault");
    import_rows(&import).await?;
    let Some(server) = servers.first() else {
        return Ok(());
    };

    let faults: [Fault; 3] = [
        ("2. the connection is closed", |server| {
            server.faults().disconnect("import");
        }),
        ("3. the lease expires on the server", |server| {
            _ = server.faults().expire("import");
        }),
        ("4. the server stops replying", |server| {
            server.faults().freeze();
        }),
    ];
    for (title, inject) in faults {
        println!("{title}");
        let fault = async {
            sleep(Duration::from_millis(250)).await;
            inject(server);
            sleep(Duration::from_millis(1500)).await;
            server.faults().thaw();
            Ok::<_, Error>(())
        };
        tokio::try_join!(import_rows(&import), fault)?;
    }
    Ok(())
}

/// Imports all rows. After a loss it continues with the first row that is not written.
async fn import_rows(import: &Semaphore) -> Result<(), Error> {
    let mut written = 0;
    loop {
        match import
            .with_slot(async |held| write_rows(&mut written, held).await)
            .await
        {
            Err(error) if error.is_lost() => {
                println!("  stopped after row {written}; acquiring again");
            }
            outcome => return outcome?,
        }
    }
}

/// Writes the missing rows. The future is dropped at an `.await` when the slot is lost.
async fn write_rows(written: &mut u32, held: &Held) -> Result<(), Error> {
    while *written < 30 {
        // Checks right before the irreversible step, and not only at the next `.await`.
        held.check()?;
        *written += 1;
        sleep(Duration::from_millis(50)).await;
    }
    println!("  all {written} rows written");
    Ok(())
}
