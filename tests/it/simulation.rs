//! The simulation on a small number of seeds. The program `simulate` runs more.

use dflock_tests::sim::{Summary, run, run_seeds};

/// Faults that the other clients do not survive.
const FAULTS: [&str; 14] = [
    "busy client",
    "delayed replies",
    "frozen connection",
    "frozen server",
    "half-open connection",
    "lease ended early",
    "one-way partition",
    "partition",
    "refused connections",
    "reset",
    "server disconnects a key",
    "server disconnects all",
    "server restart",
    "time jump",
];

#[test]
fn no_fault_causes_an_invalid_hold() {
    let Summary {
        runs,
        faults,
        events,
        failed,
    } = run_seeds(0..300);
    if let Some(failed) = failed {
        panic!(
            "`simulate --seed {}` reproduces: {:#?}",
            failed.seed, failed.violations
        );
    }
    assert_eq!(runs, 300);
    // A simulation without faults finds nothing.
    assert!(faults.keys().copied().eq(FAULTS), "{faults:?}");
    for event in [
        "cancelled futures",
        "closed",
        "closes",
        "grants of other shards",
        "holds of bodies",
        "holds of locks",
        "holds of several keys",
        "holds of several permits",
        "lease expired",
        "expired leases",
        "losses reported",
        "overdue holds",
        "read timeouts",
        "slots kept after their end",
        "timeout",
        "waits for further permits",
        "waits in the queue",
    ] {
        assert!(
            events.get(event).is_some_and(|count| *count >= 10),
            "{event}: {events:?}"
        );
    }
}

#[test]
fn a_seed_determines_the_whole_run() {
    for seed in [0, 1, 7, 41] {
        let (first, second, another) = (
            run(seed).history(),
            run(seed).history(),
            run(seed + 1).history(),
        );
        assert!(first == second, "seed {seed}");
        assert!(first != another, "seed {seed}");
    }
}
