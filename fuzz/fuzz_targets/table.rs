//! Fuzz target for `dflock::fuzzing::table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dflock::fuzzing::table(bytes));
