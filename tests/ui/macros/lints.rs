//! The attribute suppresses no warnings.
#![deny(warnings)]

#[dflock::lock(key = "unused")]
pub async fn unused(argument: u8) -> Result<(), dflock::Error> {
    let variable = 1;
    let mut never_changed = 2;
    println!("{never_changed}");
    compute();
    Ok(())
}

#[must_use]
fn compute() -> u8 {
    1
}

#[dflock::lock(key = "unreachable", slot = held)]
pub async fn unreachable() -> Result<u8, dflock::Error> {
    return Ok(1);
    println!("never");
}

#[dflock::lock(key = "must_use")]
#[must_use]
pub async fn must_use() -> Result<(), dflock::Error> {
    Ok(())
}

pub async fn ignores() {
    must_use();
    must_use().await;
}

#[dflock::lock(key = "deprecated")]
#[deprecated]
pub async fn deprecated() -> Result<(), dflock::Error> {
    Ok(())
}

pub async fn calls() -> Result<(), dflock::Error> {
    deprecated().await
}

fn main() {}
