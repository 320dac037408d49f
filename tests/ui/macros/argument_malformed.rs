//! Malformed arguments.

#[dflock::lock("nightly")]
async fn without_a_name() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key("nightly"))]
async fn in_brackets() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = )]
async fn without_a_value() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a" slot = held)]
async fn without_a_comma() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", on_lost = stop, slot = "held", crate = "dflock")]
async fn other_values() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key: "a", slot = &held, on_lost)]
async fn other_forms() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", slot = _, on_lost = , lease_ttl =)]
async fn placeholders() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "a", slot = self)]
async fn keyword() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = ("a b"), limit = (0))]
async fn in_parentheses() -> Result<(), dflock::Error> {
    Ok(())
}

fn main() {}
