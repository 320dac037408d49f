//! Every bar of docs/PERFORMANCE.md, measured one after the other.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::certificate::Certificate;
use crate::contender::{Contender, Load, median, median_ratio, take_turns};
use crate::flags::{Flags, Runtime};
use crate::round::Round;
use crate::serve::{Role, ServerProcess};
use crate::{Result, crowd, machine, report, sdk};

/// One line of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Bar {
    pub(crate) load: String,
    pub(crate) allowed: String,
    pub(crate) measured: f64,
    pub(crate) is_met: bool,
    /// What was seen beside it.
    pub(crate) beside: String,
}

/// Measures all, prints the table, and fails if a bar is not met.
pub(crate) fn run(flags: &Flags) -> Result<ExitCode> {
    let (bench, mut bars) = (Bench::new(flags)?, Vec::new());
    bench.one_worker(&mut bars)?;
    bench.many_workers(&mut bars)?;
    bench.many_threads(&mut bars)?;
    bench.one_key(&mut bars)?;
    bench.one_key_held(&mut bars)?;
    bench.tls(&mut bars)?;
    bench.crowd(&mut bars)?;
    bench.embedded(&mut bars)?;
    report::bars(&bars, flags.json)?;
    Ok(if bars.iter().all(|bar| bar.is_met) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Bench {
    program: Option<PathBuf>,
    rounds: NonZeroU32,
    cycles: u32,
    cpus: Vec<usize>,
}

impl Bench {
    fn new(flags: &Flags) -> Result<Self> {
        let cpus = machine::cpus()?;
        Ok(Self {
            program: flags.server_program.clone(),
            rounds: flags.rounds,
            cycles: flags.cycles.get(),
            cpus,
        })
    }

    /// The client on the first `ours` cores, the server on the rest; on the same if there are not enough.
    fn split(&self, ours: usize) -> (&[usize], &[usize]) {
        if self.cpus.len() > ours {
            self.cpus.split_at(ours)
        } else {
            (&self.cpus, &self.cpus)
        }
    }

    fn server(&self, cpus: &[usize], tls: Option<&Certificate>) -> Result<ServerProcess> {
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

    /// The rounds of dflock, and those of each of `others`.
    fn turns<const N: usize>(
        &self,
        runtime: Runtime,
        others: [Contender; N],
        load: &Load,
    ) -> Result<(Vec<Round>, [Vec<Round>; N])> {
        let mut contenders = vec![Contender::Dflock(runtime)];
        contenders.extend(others);
        let mut all = take_turns(&contenders, load, self.rounds)?.into_iter();
        let ours = all.next().unwrap_or_default();
        Ok((
            ours,
            std::array::from_fn(|_| all.next().unwrap_or_default()),
        ))
    }

    fn one_worker(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let core = &self.cpus[..1];
        machine::pin(core)?;
        let server = self.server(core, None)?;
        let load = self.load(&server, 1);
        let (ours, [kept, tokio]) = self.turns(
            Runtime::Current,
            [Contender::Kept, Contender::Tokio(Runtime::Current)],
            &load,
        )?;
        let beside = format!(
            "p50 {:.1} us, floor {:.1} us, bare tokio {:.1} us",
            median(&ours, |round| round.p50_us),
            median(&kept, |round| round.p50_us),
            median(&tokio, |round| round.p50_us)
        );
        let ratio = median_ratio(&ours, &kept, |round| round.p50_us);
        bars.push(Bar::at_most(
            "1 worker, client and server on one core, p50 / kept-connection floor",
            ratio,
            1.30,
            beside,
        ));
        let allocations = sdk::allocations(&load)?;
        bars.push(Bar::at_most(
            "heap allocations per warm cycle",
            allocations,
            4.0,
            String::new(),
        ));
        Ok(())
    }

    fn many_workers(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        for workers in [64, 256] {
            let server = self.server(theirs, None)?;
            let load = self.load(&server, workers);
            let (ours, [epoll, tokio]) = self.turns(
                Runtime::Current,
                [Contender::Epoll, Contender::Tokio(Runtime::Current)],
                &load,
            )?;
            bars.push(Bar::speed(
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

    fn many_threads(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(self.cpus.len() / 2);
        machine::pin(ours)?;
        for workers in [64, 256] {
            let server = self.server(theirs, None)?;
            let (ours, [tokio]) = self.turns(
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

    fn one_key(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        let server = self.server(theirs, None)?;
        let load = Load {
            contend: true,
            ..self.load(&server, 64)
        };
        let (ours, [epoll]) = self.turns(Runtime::Current, [Contender::Epoll], &load)?;
        bars.push(Bar::speed(
            "64 workers, one key, limit 5, no hold",
            &ours,
            &epoll,
            0.85,
        ));
        Ok(())
    }

    fn one_key_held(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        let server = self.server(theirs, None)?;
        // about four seconds a round
        let load = Load {
            contend: true,
            hold: Duration::from_millis(10),
            cycles: 2000,
            ..self.load(&server, 64)
        };
        let (ours, [tokio]) = self.turns(
            Runtime::Current,
            [Contender::Tokio(Runtime::Current)],
            &load,
        )?;
        // the slots could carry so many a second if none was ever empty
        let part = |rounds| {
            median(rounds, |round: &Round| {
                round.cycles_per_second * round.mean_hold_us / 1e6 / f64::from(load.limit)
            })
        };
        let beside = format!(
            "mean hold {:.0} us; bare tokio {:.3}",
            median(&ours, |round| round.mean_hold_us),
            part(&tokio)
        );
        let part = part(&ours);
        bars.push(Bar::at_least(
            "the same with a hold of 10 ms: cycles/s of limit / mean hold",
            part,
            0.98,
            beside,
        ));
        Ok(())
    }

    fn tls(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        let certificate = Certificate::new()?;
        let (plain, secure) = (
            self.server(theirs, None)?,
            self.server(theirs, Some(&certificate))?,
        );
        let secure = Load {
            tls_ca: Some(certificate.chain()),
            ..self.load(&secure, 64)
        };
        let (mut with_tls, mut without) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.get() {
            with_tls.push(Contender::Dflock(Runtime::Current).run(&secure)?);
            without.push(Contender::Dflock(Runtime::Current).run(&self.load(&plain, 64))?);
        }
        bars.push(Bar::speed(
            "64 workers, own keys, TLS, where the floor is dflock without",
            &with_tls,
            &without,
            0.85,
        ));
        Ok(())
    }

    fn crowd(&self, bars: &mut Vec<Bar>) -> Result<()> {
        const SLOTS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        let server = self.server(theirs, None)?;
        let crowd = crowd::hold(&self.load(&server, 1), SLOTS)?;
        let beside = format!("{:.2} KiB of it heap; {} lost", crowd.heap_kib, crowd.lost);
        bars.push(Bar::at_most(
            "10,000 slots held: client memory for each, KiB",
            crowd.resident_kib,
            8.0,
            beside,
        ));
        let beside = format!(
            "{:.1} % in the busiest quarter of a second",
            crowd.renewals_core_at_most * 100.0
        );
        bars.push(Bar::at_most(
            "the same: CPU for renewals, % of a core",
            crowd.renewals_core * 100.0,
            10.0,
            beside,
        ));
        Ok(())
    }

    fn embedded(&self, bars: &mut Vec<Bar>) -> Result<()> {
        let (ours, theirs) = self.split(1);
        machine::pin(ours)?;
        let (server, echo) = (
            ServerProcess::own(Role::Embedded, theirs, None)?,
            ServerProcess::own(Role::Echo, theirs, None)?,
        );
        let (mut with_server, mut with_echo) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds.get() {
            with_server.push(Contender::Epoll.run(&self.load(&server, 64))?);
            with_echo.push(Contender::Epoll.run(&self.load(&echo, 64))?);
        }
        let load = "embedded server, 64 connections, under the epoll floor";
        bars.push(Bar::speed(load, &with_server, &with_echo, 0.90));
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

    /// Cycles a second, beside those of the floor.
    fn speed(load: &str, ours: &[Round], floor: &[Round], least: f64) -> Self {
        let speed = |rounds| median(rounds, |round: &Round| round.cycles_per_second);
        let beside = format!("{:.0} cycles/s, floor {:.0}", speed(ours), speed(floor));
        Self::at_least(
            &format!("{load}: cycles/s / floor"),
            median_ratio(ours, floor, |round| round.cycles_per_second),
            least,
            beside,
        )
    }

    /// The client's CPU time for a cycle, beside that of bare tokio sockets.
    fn cpu(load: &str, ours: &[Round], tokio: &[Round], bar: f64) -> Self {
        let cpu = |rounds| median(rounds, |round: &Round| round.cpu_us);
        let ratio = median_ratio(ours, tokio, |round| round.cpu_us);
        let beside = format!("bare tokio {:.1} us, ratio {ratio:.2}", cpu(tokio));
        Self::at_most(
            &format!("{load}: client CPU per cycle, us"),
            cpu(ours),
            bar,
            beside,
        )
    }
}
