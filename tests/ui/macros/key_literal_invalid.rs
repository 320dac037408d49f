//! Key literals that are invalid whatever values are inserted.

#[dflock::lock(key = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk")]
async fn long() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk{tenant}kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk:")]
async fn long_around_a_name(tenant: &str) -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a\tb", limit = 1)]
async fn tab() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a\r\nb", limit = 1)]
async fn line_break() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = "a\0", limit = 1)]
async fn nul() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::semaphore(key = r"report of:{tenant}", limit = 1)]
async fn space_beside_a_name(tenant: &str) -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "two words".to_owned())]
async fn owned() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = String::from(""))]
async fn empty() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = concat!("two", " ", "words"))]
async fn concatenated() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = format!("report of:{}", tenant.id))]
async fn formatted(tenant: &Tenant) -> Result<(), dflock::Error> {
    Ok(())
}

struct Tenant {
    id: u32,
}

fn main() {}
