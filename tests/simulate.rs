//! Runs the simulation on a range of seeds; see `README.md`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use dflock_tests::sim::{Outcome, Summary, run, run_seeds};

const USAGE: &str = "usage: simulate [--seeds COUNT] [--from FIRST] | --seed SEED";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (mut seeds, mut from, mut one) = (1000, 0, None);
    for pair in arguments.chunks(2) {
        let value = pair.get(1).and_then(|value| value.parse::<u64>().ok());
        match (pair[0].as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--from", Some(value)) => from = value,
            ("--seed", Some(value)) => one = Some(value),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    if let Some(seed) = one {
        return print_outcome(&run(seed));
    }
    let began = Instant::now();
    let Summary {
        runs,
        faults,
        events,
        failed,
    } = run_seeds(from..from.saturating_add(seeds));
    let took = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "only printed")]
    let rate = runs as f64 / took;
    println!("{runs} seeds in {took:.1} s, {rate:.0} a second");
    print_counts("faults that had an effect", &faults);
    print_counts("events", &events);
    if let Some(failed) = failed {
        return print_outcome(&failed);
    }
    println!("no violation");
    ExitCode::SUCCESS
}

fn print_counts(title: &str, counts: &BTreeMap<&str, u64>) {
    println!("{title}: {}", counts.values().sum::<u64>());
    for (what, count) in counts {
        println!("  {count:>9}  {what}");
    }
}

/// Prints the whole history of one seed and its violations.
fn print_outcome(outcome: &Outcome) -> ExitCode {
    let Outcome {
        seed, violations, ..
    } = outcome;
    println!("{}", outcome.history());
    for violation in violations {
        println!("VIOLATION {violation}");
    }
    println!(
        "seed {seed}: {} violations; repeat with `simulate --seed {seed}`",
        violations.len()
    );
    if violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
