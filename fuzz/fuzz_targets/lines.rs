//! Fuzz target for `dflock::fuzzing::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dflock::fuzzing::lines(bytes));
