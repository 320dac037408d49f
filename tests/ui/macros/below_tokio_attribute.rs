//! Tokio's attributes remove `async`, so they must be below the attribute.

#[tokio::main(flavor = "current_thread")]
#[dflock::lock(key = "fine")]
async fn inside_the_runtime() -> Result<(), dflock::Error> {
    Ok(())
}

#[tokio::test]
#[dflock::lock(key = "fine")]
async fn inside_a_test() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "wrong", slot = held)]
#[tokio::main(flavor = "current_thread")]
async fn outside_of_it() -> Result<(), dflock::Error> {
    held.check()?;
    Ok(())
}

#[dflock::lock(key = "wrong")]
#[tokio::test]
async fn outside_of_a_test() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
