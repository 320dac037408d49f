//! Fuzz target for `dflock::fuzzing::reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dflock::fuzzing::reply(bytes));
