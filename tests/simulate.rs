//! Runs the simulation on any number of seeds; see `README.md`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dflock_tests::sim::{Outcome, run};

const USAGE: &str = "simulate [--seeds COUNT] [--from FIRST] | --seed SEED";

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
    match one {
        Some(seed) => replay(seed),
        None => search(from, from + seeds),
    }
}

fn replay(seed: u64) -> ExitCode {
    let outcome = run(seed);
    println!("{}", outcome.history());
    judge(&outcome)
}

fn search(from: u64, to: u64) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    // the first to fail, by its seed
    let failed: Mutex<Option<Outcome>> = Mutex::default();
    let tally: Mutex<(u64, [BTreeMap<&str, u64>; 2])> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < to
                {
                    let outcome = run(seed);
                    let (runs, sums) = &mut *tally.lock().expect("nobody panics with it");
                    *runs += 1;
                    for (sum, counts) in sums.iter_mut().zip([&outcome.faults, &outcome.events]) {
                        counts.iter().for_each(|(what, count)| *sum.entry(*what).or_default() += count);
                    }
                    if !outcome.violations.is_empty() {
                        // those before it are under way or done: the first is among them
                        next.store(to, Ordering::Relaxed);
                        let mut failed = failed.lock().expect("nobody panics with it");
                        if failed.as_ref().is_none_or(|first| seed < first.seed) {
                            *failed = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    let (runs, [faults, events]) = tally.into_inner().expect("nobody panicked with it");
    let took = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for the eye")]
    let rate = runs as f64 / took;
    println!("{runs} seeds in {took:.1} s, {rate:.0} a second");
    for (title, counts) in [("faults injected", faults), ("what happened", events)] {
        println!("{title}: {}", counts.values().sum::<u64>());
        counts.iter().for_each(|(what, count)| println!("  {count:>9}  {what}"));
    }
    match failed.into_inner().expect("nobody panicked with it") {
        Some(outcome) => {
            println!("{}", outcome.history());
            judge(&outcome)
        }
        None => {
            println!("no violation");
            ExitCode::SUCCESS
        }
    }
}

fn judge(outcome: &Outcome) -> ExitCode {
    let Outcome { seed, violations, .. } = outcome;
    for violation in violations {
        println!("VIOLATION {violation}");
    }
    println!("seed {seed}: {} violations; again with --seed {seed}", violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
