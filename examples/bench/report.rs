//! Output of the results, as text or JSON.

use std::io::Write;

use serde_json::{Value, json};

use crate::Result;
use crate::bars::Bar;
use crate::contender::{Contender, median, median_ratio};
use crate::many_slots::HoldCost;
use crate::round::Round;
use crate::several::Comparison;

/// Prints the medians of each contender, and the ratios to the first one.
pub(crate) fn print_rounds(
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
                    "dflock_cycles_per_second_ratio":
                        median_ratio(ours, rounds, |round| round.cycles_per_second),
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

/// Prints the cost of many held slots.
pub(crate) fn print_hold_cost(cost: &HoldCost, as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(cost)?)?;
        return Ok(());
    }
    writeln!(out, "{} slots held, {} lost", cost.slots, cost.lost)?;
    writeln!(
        out,
        "memory for each: {:.2} KiB resident, {:.2} KiB of heap",
        cost.resident_kib, cost.heap_kib
    )?;
    let (mean, max) = (
        cost.renewals_core * 100.0,
        cost.renewals_core_at_most * 100.0,
    );
    writeln!(
        out,
        "CPU for renewals: {mean:.1} % of a core, {max:.1} % in the busiest quarter of a second"
    )?;
    Ok(())
}

/// Prints calls for several slots beside single acquires.
pub(crate) fn print_comparisons(comparisons: &[Comparison], as_json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{}", serde_json::to_string(comparisons)?)?;
        return Ok(());
    }
    for Comparison {
        name,
        cycles_per_second,
        single_cycles_per_second,
        ratio,
    } in comparisons
    {
        writeln!(
            out,
            "{name}: {cycles_per_second:.0} and {single_cycles_per_second:.0} cycles/s, {ratio:.3}x"
        )?;
    }
    Ok(())
}

/// Prints the table of all bars.
pub(crate) fn print_bars(bars: &[Bar], as_json: bool) -> Result<()> {
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
