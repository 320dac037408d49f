//! Errors in the body are reported as they are without the attribute.

#[dflock::lock(key = "type")]
async fn type_of_the_value() -> Result<u8, dflock::Error> {
    "text"
}

#[dflock::lock(key = "none")]
async fn no_value() -> Result<u8, dflock::Error> {
    let _ = 1;
}

#[dflock::lock(key = "question", slot = held)]
async fn another_error() -> Result<(), dflock::Error> {
    std::fs::read("x")?;
    held.release().await?;
    Ok(())
}

#[dflock::lock(key = "escape", slot = held)]
async fn escape() -> Result<&'static dflock::Held, dflock::Error> {
    Ok(held)
}

#[dflock::lock(key = "name")]
async fn not_named() -> Result<(), dflock::Error> {
    held.check()?;
    Ok(__dflock_semaphore)
}

#[dflock::lock(key = "syntax")]
async fn syntax() -> Result<(), dflock::Error> {
    let = 3;
    Ok(())
}

fn main() {}
