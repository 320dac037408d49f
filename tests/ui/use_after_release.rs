//! The token and the state of a slot go with it: G21, T09.

async fn use_it(held: dflock::Semaphore<dflock::Held>) -> Result<(), dflock::Error> {
    held.release().await?;
    println!("{}", held.token().as_str());
    Ok(())
}

fn main() {}
