//! Fuzz target for `dflock::fuzzing::session`.
#![no_main]

use tokio::runtime::Builder;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO can always be built");
    runtime.block_on(dflock::fuzzing::session(bytes));
});
