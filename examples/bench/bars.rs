//! Measurement of every bar of docs/PERFORMANCE.md, one after the other.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::certificate::Certificate;
use crate::contender::{Contender, Load, median, median_ratio, run_rounds};
use crate::flags::{Flags, Runtime};
use crate::round::Round;
use crate::serve::{Role, ServerProcess};
use crate::{Result, machine, many_slots, report, sdk};

/// A row of the table: a measured value and its limit.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) load: String,
    pub(crate) allowed: String,
    pub(crate) measured: f64,
    pub(crate) is_met: bool,
    /// Other figures of the same measurement.
    pub(crate) beside: String,
}

/// Measures all bars and prints the table. The exit code is a failure if a bar is not met.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let (bench, mut bars) = (Bench::new(flags)?, Vec::new());
    bench.measure_one_worker(&mut bars)?;
    bench.measure_many_workers(&mut bars)?;
    bench.measure_many_threads(&mut bars)?;
    bench.measure_one_key(&mut bars)?;
    bench.measure_one_key_held(&mut bars)?;
    bench.measure_tls(&mut bars)?;
    bench.measure_many_slots(&mut bars)?;
    bench.measure_embedded(&mut bars)?;
    report::print_bars(&bars, flags.json)?;
    Ok(if bars.iter().all(|bar| bar.is_met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Settings that all measurements share.
struct Bench {
    program: Option<PathBuf>,
    rounds: NonZeroU32,
    cycles: u32,
    cpus: Vec<usize>,
}

impl Bench {
    fn new(flags: &Flags) -> Result<Self> {
        let cpus = machine::allowed_cpus()?;
        Ok(Self {
            program: flags.server_program.clone(),
            rounds: flags.rounds,
            cycles: flags.cycles.get(),
            cpus,
        })
    }

    /// Returns the first `client` cores for the client, and the others for the server.
    ///
    /// Both use all cores if no core is left for the server.
    fn split_cpus(&self, client: usize) -> (&[usize], &[usize]) {
        if self.cpus.len() > client {
            self.cpus.split_at(client)
        } else {
            (&self.cpus, &self.cpus)
        }
    }

    fn start_server(&self, cpus: &[usize], tls: Option<&Certificate>) -> Result<ServerProcess> {
        ServerProcess::start(self.program.as_deref(), cpus, tls)
    }

    fn load(&self, server: &ServerProcess, workers: u32) -> Load {
        let servers = vec![server.addr().to_string()];
        Load {
            servers,
            tls_ca: None,
            workers,
            cycles: self.cycles,
            contend: false,
            limit: 5,
            hold: Duration::ZERO,
        }
    }

    /// Runs dflock and `others`. Returns the rounds of dflock, and the rounds of each of `others`.
    fn run_contenders<const N: usize>(
        &self,
        runtime: Runtime,
        others: [Contender; N],
        load: &Load,
    ) -> Result<(Vec<Round>, [Vec<Round>; N])> {
        let mut contenders = vec![Contender::Dflock(runtime)];
        contenders.extend(others);
        let mut all = run_rounds(&contenders, load, self.rounds)?.into_iter();
        let ours = all.next().unwrap_or_default();
        Ok((
            ours,
            std::array::from_fn(|_| all.next().unwrap_or_default()),
        ))
    }

    fn measure_one_worker(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let core = &self.cpus[..1];
        machine::pin_to_cpus(core)?;
        let server = self.start_server(core, None)?;
        let load = self.load(&server, 1);
        let (ours, [blocking, tokio]) = self.run_contenders(
            Runtime::Current,
            [Contender::Blocking, Contender::Tokio(Runtime::Current)],
            &load,
        )?;
        let beside = format!(
            "p50 {:.1} us, floor {:.1} us, bare tokio {:.1} us",
            median(&ours, |round| round.p50_us),
            median(&blocking, |round| round.p50_us),
            median(&tokio, |round| round.p50_us)
        );
        let ratio = median_ratio(&ours, &blocking, |round| round.p50_us);
        bars.push(Bar::at_most(
            "1 worker, client and server on one core, p50 / kept-connection floor",
            ratio,
            1.30,
            beside,
        ));
        let allocations = sdk::allocations_per_cycle(&load)?;
        bars.push(Bar::at_most(
            "heap allocations per warm cycle",
            allocations,
            4.0,
            String::new(),
        ));
        Ok(())
    }

    fn measure_many_workers(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        for workers in [64, 256] {
            let server = self.start_server(server_cpus, None)?;
            let load = self.load(&server, workers);
            let (ours, [epoll, tokio]) = self.run_contenders(
                Runtime::Current,
                [Contender::Epoll, Contender::Tokio(Runtime::Current)],
                &load,
            )?;
            bars.push(Bar::throughput(
                &format!("{workers} workers, own keys"),
                &ours,
                &epoll,
                0.85,
            ));
            bars.push(Bar::cpu(
                &format!("{workers} workers, current-thread"),
                &ours,
                &tokio,
                9.0,
            ));
        }
        Ok(())
    }

    fn measure_many_threads(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(self.cpus.len() / 2);
        machine::pin_to_cpus(client_cpus)?;
        for workers in [64, 256] {
            let server = self.start_server(server_cpus, None)?;
            let (ours, [tokio]) = self.run_contenders(
                Runtime::Multi,
                [Contender::Tokio(Runtime::Multi)],
                &self.load(&server, workers),
            )?;
            bars.push(Bar::cpu(
                &format!("{workers} workers, multi-thread"),
                &ours,
                &tokio,
                12.0,
            ));
        }
        Ok(())
    }

    fn measure_one_key(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        let server = self.start_server(server_cpus, None)?;
        let load = Load {
            contend: true,
            ..self.load(&server, 64)
        };
        let (ours, [epoll]) = self.run_contenders(Runtime::Current, [Contender::Epoll], &load)?;
        bars.push(Bar::throughput(
            "64 workers, one key, limit 5, no hold",
            &ours,
            &epoll,
            0.85,
        ));
        Ok(())
    }

    fn measure_one_key_held(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        let server = self.start_server(server_cpus, None)?;
        // One round takes about four seconds.
        let load = Load {
            contend: true,
            hold: Duration::from_millis(10),
            cycles: 2000,
            ..self.load(&server, 64)
        };
        let (ours, [tokio]) = self.run_contenders(
            Runtime::Current,
            [Contender::Tokio(Runtime::Current)],
            &load,
        )?;
        // The limit is `limit / mean hold` cycles a second: it is reached if no slot is ever free.
        let utilization = |rounds| {
            median(rounds, |round: &Round| {
                round.cycles_per_second * round.mean_hold_us / 1e6 / f64::from(load.limit)
            })
        };
        let beside = format!(
            "mean hold {:.0} us; bare tokio {:.3}",
            median(&ours, |round| round.mean_hold_us),
            utilization(&tokio)
        );
        let utilization = utilization(&ours);
        bars.push(Bar::at_least(
            "the same with a hold of 10 ms: cycles/s of limit / mean hold",
            utilization,
            0.98,
            beside,
        ));
        Ok(())
    }

    fn measure_tls(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        let certificate = Certificate::new()?;
        let (plain, secure) = (
            self.start_server(server_cpus, None)?,
            self.start_server(server_cpus, Some(&certificate))?,
        );
        let secure = Load {
            tls_ca: Some(certificate.chain()),
            ..self.load(&secure, 64)
        };
        let (mut tls_rounds, mut plain_rounds) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.get() {
            tls_rounds.push(Contender::Dflock(Runtime::Current).run(&secure)?);
            plain_rounds.push(Contender::Dflock(Runtime::Current).run(&self.load(&plain, 64))?);
        }
        bars.push(Bar::throughput(
            "64 workers, own keys, TLS, where the floor is dflock without",
            &tls_rounds,
            &plain_rounds,
            0.85,
        ));
        Ok(())
    }

    fn measure_many_slots(&self, bars: &mut Vec<Bar>) -> Result<()> {
        const SLOTS: NonZeroU32 = NonZeroU32::new(10_000).expect("10,000 is not zero");
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        let server = self.start_server(server_cpus, None)?;
        let cost = many_slots::measure(&self.load(&server, 1), SLOTS)?;
        let beside = format!("{:.2} KiB of it heap; {} lost", cost.heap_kib, cost.lost);
        bars.push(Bar::at_most(
            "10,000 slots held: client memory for each, KiB",
            cost.resident_kib,
            8.0,
            beside,
        ));
        let beside = format!(
            "{:.1} % in the busiest quarter of a second",
            cost.renewals_core_at_most * 100.0
        );
        bars.push(Bar::at_most(
            "the same: CPU for renewals, % of a core",
            cost.renewals_core * 100.0,
            10.0,
            beside,
        ));
        Ok(())
    }

    fn measure_embedded(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (client_cpus, server_cpus) = self.split_cpus(1);
        machine::pin_to_cpus(client_cpus)?;
        let (server, echo) = (
            ServerProcess::start_self(Role::Embedded, server_cpus, None)?,
            ServerProcess::start_self(Role::Echo, server_cpus, None)?,
        );
        let (mut embedded_rounds, mut echo_rounds) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.get() {
            embedded_rounds.push(Contender::Epoll.run(&self.load(&server, 64))?);
            echo_rounds.push(Contender::Epoll.run(&self.load(&echo, 64))?);
        }
        let load = "embedded server, 64 connections, under the epoll floor";
        bars.push(Bar::throughput(load, &embedded_rounds, &echo_rounds, 0.90));
        Ok(())
    }
}

impl Bar {
    fn at_most(load: &str, measured: f64, bar: f64, beside: String) -> Self {
        Self {
            load: load.to_owned(),
            allowed: format!("<= {bar}"),
            measured,
            is_met: measured <= bar,
            beside,
        }
    }

    fn at_least(load: &str, measured: f64, bar: f64, beside: String) -> Self {
        Self {
            load: load.to_owned(),
            allowed: format!(">= {bar}"),
            measured,
            is_met: measured >= bar,
            beside,
        }
    }

    /// Returns a bar for the cycles a second, as a ratio to the cycles a second of the floor.
    fn throughput(load: &str, ours: &[Round], floor: &[Round], least: f64) -> Self {
        let throughput = |rounds| median(rounds, |round: &Round| round.cycles_per_second);
        let beside = format!(
            "{:.0} cycles/s, floor {:.0}",
            throughput(ours),
            throughput(floor)
        );
        Self::at_least(
            &format!("{load}: cycles/s / floor"),
            median_ratio(ours, floor, |round| round.cycles_per_second),
            least,
            beside,
        )
    }

    /// Returns a bar for the CPU time of the client for one cycle.
    ///
    /// The rounds of bare tokio sockets are printed for comparison.
    fn cpu(load: &str, ours: &[Round], tokio: &[Round], bar: f64) -> Self {
        let cpu_us = |rounds| median(rounds, |round: &Round| round.cpu_us);
        let ratio = median_ratio(ours, tokio, |round| round.cpu_us);
        let beside = format!("bare tokio {:.1} us, ratio {ratio:.2}", cpu_us(tokio));
        Self::at_most(
            &format!("{load}: client CPU per cycle, us"),
            cpu_us(ours),
            bar,
            beside,
        )
    }
}
