//! A model, never a measurement: what the papers' arithmetic makes of the tokens that an engine of the project has processed
//! ([`suites::arithmetic`]). It knows nothing of memory, of control or of this machine.

use super::source::{Domain, EnergySource, Info, Part, Raw, Scale, Wraps};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use suites::arithmetic::{Breakdown, Counted, Layers, Process};
use suites::record::EnergyKind;

/// The source's name. Its joules stand beside a machine's and never for them.
pub const NAME: &str = "arithmetic";
/// What it tells apart: the parts at 7 nm, and everything at 45 nm.
const DOMAINS: [&str; 4] = ["linear", "scales", "attention", "at 45 nm"];

/// Nanojoules so far, by domain; whoever processes tokens adds to it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<[AtomicU64; DOMAINS.len()]>);

impl Tally {
    /// Adds `times` passes over the positions `from..to` of a sequence.
    pub fn add(&self, counted: &Counted, layers: Layers, (from, to): (u64, u64), times: u64) {
        let spent = |process: Process, part: &dyn Fn(Breakdown) -> f64| {
            let at = |tokens: u64| part(counted.energy(layers, process, tokens));
            ((at(to) - at(from)).max(0.0) * times as f64 * 1e9).round() as u64
        };
        let parts = [
            spent(Process::Nm7, &|found| found.linear.total()),
            spent(Process::Nm7, &|found| found.scales.total()),
            spent(Process::Nm7, &|found| found.attention.total()),
            spent(Process::Nm45, &|found| found.total()),
        ];
        for (sum, nanojoules) in self.0.iter().zip(parts) {
            sum.fetch_add(nanojoules, Ordering::Relaxed);
        }
    }
}

/// A tally as a source.
pub struct Arithmetic {
    info: Info,
    tally: Tally,
}

impl Arithmetic {
    /// Of `tally`.
    pub fn new(tally: Tally) -> Arithmetic {
        let domain = |name: &&str| Domain {
            name: (*name).to_owned(),
            part: match *name {
                "at 45 nm" => Part::Left("the same at another process".to_owned()),
                _ => Part::Counted,
            },
            scale: Scale::Counter { unit_uj: 1e-3, wraps: Wraps::Never },
        };
        let domains = DOMAINS.iter().map(domain).collect();
        let info = Info { name: NAME.to_owned(), kind: EnergyKind::Modelled, domains, refresh: Duration::ZERO };
        Arithmetic { info, tally }
    }
}

impl EnergySource for Arithmetic {
    fn info(&self) -> &Info {
        &self.info
    }

    fn read(&mut self) -> Vec<Result<Raw, String>> {
        self.tally.0.iter().map(|sum| Ok(Raw::Count(sum.load(Ordering::Relaxed)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a prompt and of the tokens after it adds up to the sequence of both.
    #[test]
    fn stretches_of_a_sequence_add_up_to_the_whole() {
        let counted = Counted::gated(30, 2560, 6912, 20, 5, 128);
        let read = |stretches: &[(u64, u64)]| {
            let tally = Tally::default();
            stretches.iter().for_each(|&stretch| tally.add(&counted, Layers::Ternary, stretch, 1));
            Arithmetic::new(tally).read().into_iter().map(Result::unwrap).collect::<Vec<_>>()
        };
        let (whole, parts) = (read(&[(0, 512)]), read(&[(0, 100), (100, 512)]));
        // 2504.12285, table 1: 0.028 J, of which scales are the least.
        let joules: f64 = whole[..3]
            .iter()
            .map(|raw| if let Raw::Count(nanojoules) = raw { *nanojoules as f64 / 1e9 } else { f64::NAN })
            .sum();
        assert_eq!(format!("{joules:.3}"), "0.028");
        for (whole, parts) in whole.iter().zip(&parts) {
            let (Raw::Count(whole), Raw::Count(parts)) = (whole, parts) else { panic!("{whole:?}") };
            assert!(*whole > 0 && whole.abs_diff(*parts) <= 1, "{whole} {parts}");
        }
    }
}
