//! A released slot has no token and no state: G21, T09.

async fn use_released(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.release().await?;
    println!("{}", held.token().as_str());
    Ok(())
}

fn main() {}
