//! Limits of size that no server could keep to.

use dflock::Client;

use super::reads_well;

#[test]
fn a_limit_for_stats_below_1_kib_is_refused() {
    for bytes in [0, 1, 1023] {
        let error = Client::builder().max_stats_size(bytes).build().unwrap_err();
        let given = format!("max_stats_size {bytes} is refused");
        reads_well(&error, &[&given, "1024 bytes or more"]);
    }
    for bytes in [1024, usize::MAX] {
        Client::builder().max_stats_size(bytes).build().unwrap();
    }
}
