//! What is printed.

use std::io::Write;

use serde_json::{Value, json};

use crate::Result;
use crate::bars::Bar;
use crate::contender::{Contender, median, median_ratio};
use crate::crowd::Crowd;
use crate::round::Round;

/// The medians of each contender, and the ratios to the first.
pub(crate) fn rounds(
    contenders: &[Contender],
    rounds: &[Vec<Round>],
    allocations: f64,
    as_json: bool,
) -> Result<()> {
    let [ours, ..] = rounds else { return Ok(()) };
    let rows = contenders.iter().zip(rounds);
    let mut out = std::io::stdout().lock();
    if as_json {
        let all: Vec<Value> = rows
            .map(|(contender, rounds)| {
                json!({
                    "name": contender.name(),
                    "rounds": rounds,
                    "dflock_cycles_per_second_ratio": median_ratio(ours, rounds, |round| round.cycles_per_second),
                    "dflock_p50_ratio": median_ratio(ours, rounds, |round| round.p50_us),
                })
            })
            .collect();
        writeln!(
            out,
            "{}",
            json!({ "contenders": all, "dflock_allocations_per_cycle": allocations })
        )?;
        return Ok(());
    }
    writeln!(
        out,
        "{:30} {:>9} {:>9} {:>9} {:>11} {:>8} {:>9} {:>11} {:>11}",
        "",
        "cycles/s",
        "p50 us",
        "p99 us",
        "max wait us",
        "fairness",
        "CPU us",
        "dflock c/s",
        "dflock p50"
    )?;
    for (contender, rounds) in rows {
        writeln!(
            out,
            "{:30} {:9.0} {:9.1} {:9.1} {:11.0} {:8.4} {:9.2} {:10.3}x {:10.3}x",
            contender.name(),
            median(rounds, |round| round.cycles_per_second),
            median(rounds, |round| round.p50_us),
            median(rounds, |round| round.p99_us),
            median(rounds, |round| round.max_wait_us),
            median(rounds, |round| round.fairness),
            median(rounds, |round| round.cpu_us),
            median_ratio(ours, rounds, |round| round.cycles_per_second),
            median_ratio(ours, rounds, |round| round.p50_us),
        )?;
    }
    writeln!(
        out,
        "dflock allocates {allocations:.2} times in a warm cycle"
    )?;
    Ok(())
}

/// What it costs to hold many slots.
pub(crate) fn crowd(crowd: &Crowd, as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(crowd)?)?;
        return Ok(());
    }
    writeln!(out, "{} slots held, {} lost", crowd.slots, crowd.lost)?;
    writeln!(
        out,
        "memory for each: {:.2} KiB resident, {:.2} KiB of heap",
        crowd.resident_kib, crowd.heap_kib
    )?;
    let (mean, most) = (
        crowd.renewals_core * 100.0,
        crowd.renewals_core_at_most * 100.0,
    );
    writeln!(
        out,
        "CPU for renewals: {mean:.1} % of a core, {most:.1} % in the busiest quarter of a second"
    )?;
    Ok(())
}

/// The table of all bars.
pub(crate) fn bars(bars: &[Bar], as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(bars)?)?;
        return Ok(());
    }
    writeln!(out, "| load | bar | measured | met | beside |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    for Bar {
        load,
        allowed,
        measured,
        is_met,
        beside,
    } in bars
    {
        writeln!(
            out,
            "| {load} | {allowed} | {measured:.3} | {} | {beside} |",
            if *is_met { "yes" } else { "no" }
        )?;
    }
    Ok(())
}
