//! Invalid keys: N10.

#[dflock::lock(key = "")]
async fn empty() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "two words")]
async fn space() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = 7)]
async fn number() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "report:{")]
async fn brace() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "report:{}")]
async fn nameless(tenant: &str) -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "report:{tenant.id}")]
async fn field(tenant: &Tenant) -> Result<(), dflock::Error> {
    Ok(())
}

struct Tenant {
    id: u32,
}

fn main() {}
