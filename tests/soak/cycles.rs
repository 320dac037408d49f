//! x
use dflock_tests::fleet::Outcome;
pub(crate) fn run(_c: u64, _s: u64) -> Outcome<bool> {
    Ok(true)
}
