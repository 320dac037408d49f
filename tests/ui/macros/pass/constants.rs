//! Constants with names that occur in the expansion.
#![deny(warnings)]
#![allow(non_upper_case_globals)]

pub const built: u8 = 1;
pub const held: u8 = 2;
pub const never: u8 = 3;
pub static client: u8 = 4;

#[dflock::semaphore(key = "{built}:{held}", limit = 1, slot = mine)]
async fn constants() -> Result<u8, dflock::Error> {
    mine.check()?;
    Ok(built + held + never + client)
}

fn main() {
    drop(constants());
}
