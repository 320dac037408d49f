//! Monitor of an executor. Delays that the operating system causes are not violations.

use std::time::Duration;

use dflock_tests::fleet::clock::now;
use tokio::time::sleep;

use crate::event::Away;

const BEAT: Duration = Duration::from_millis(2);

/// A tick that is later than this is a stall.
const MISSED: Duration = Duration::from_millis(10);

/// Reports each time in which the executor did not run.
pub(crate) async fn watch(tell: impl Fn(Away)) {
    let mut last = now();
    loop {
        sleep(BEAT).await;
        let away = Away {
            on_purpose: false,
            from: last,
            to: now(),
        };
        if away.span().length() > MISSED {
            tell(away);
        }
        last = away.to;
    }
}
