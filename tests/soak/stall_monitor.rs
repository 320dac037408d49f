//! Monitor of an executor. Delays that the operating system causes are not violations.

use std::time::Duration;

use dflock_tests::harness::clock::now;
use tokio::time::sleep;

use crate::event::Stall;

const TICK: Duration = Duration::from_millis(2);

/// A tick that is later than this is a stall.
const STALL_THRESHOLD: Duration = Duration::from_millis(10);

/// Reports each time in which the executor did not run.
pub(crate) async fn monitor(report: impl Fn(Stall)) {
    let mut last = now();
    loop {
        sleep(TICK).await;
        let stall = Stall {
            intentional: false,
            from: last,
            to: now(),
        };
        if stall.interval().length() > STALL_THRESHOLD {
            report(stall);
        }
        last = stall.to;
    }
}
