//! Renew ratios outside 0 to 1: T18, P22, G28.

#[dflock::lock(key = "a", renew_ratio = 0.0)]
async fn zero() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", renew_ratio = 1)]
async fn one() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", renew_ratio = -0.5)]
async fn negative() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", renew_ratio = "0.5")]
async fn text() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
