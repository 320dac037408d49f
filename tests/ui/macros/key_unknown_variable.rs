//! Templates with unknown variables, or with values that cannot be formatted.

#[dflock::semaphore(key = "report:{tenent}:{day}", limit = 3)]
async fn unknown(tenant: &str, day: u8) -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "report:{tenant}")]
async fn without_display(tenant: Option<u8>) -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "report:{tenant:y}")]
async fn spec(tenant: u8) -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
