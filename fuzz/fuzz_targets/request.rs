//! Fuzz target for `dflock::fuzzing::request`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dflock::fuzzing::request(bytes));
