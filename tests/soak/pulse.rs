//! Whether an executor gets to run: what is late because the system had no time for it is nobody's fault.

use std::time::Duration;

use dflock_tests::fleet::clock::now;
use tokio::time::sleep;

use crate::event::Away;

const BEAT: Duration = Duration::from_millis(2);

/// A beat that comes later than this was missed.
const MISSED: Duration = Duration::from_millis(10);

/// Tells of every time in which the executor did not run.
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
