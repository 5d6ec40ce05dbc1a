//! A worker's stages, each with its joules, its memory and what the machine did meanwhile: at rest, loading, prefill, decode, at
//! rest again.

use super::energy::EnergyMeter;
use super::energy::ledger::Lap;
use super::facts::{Counts, Facts};
use super::procfs;
use std::time::Duration;
use suites::record::{Energy, EnergyKind, READERS_DISAGREE, SourceEnergy, Stage, StageRecord};

/// Readers of RAPL.
const TWINS: [&str; 2] = ["powercap", "perf"];

/// Stages so far.
pub struct Phases<'a> {
    meter: &'a EnergyMeter,
    idle: Duration,
    done: Vec<StageRecord>,
    peak: Option<u64>,
    facts: Facts,
    /// Counts when the stage began.
    before: Counts,
    /// Whether the kernel's peak is that of the stage alone.
    alone: bool,
}

impl<'a> Phases<'a> {
    /// With the machine at rest for `idle` before and after, where joules are measured; with or without them, each stage has its
    /// `facts`.
    pub fn new(meter: &'a EnergyMeter, idle: Duration, facts: Facts) -> Phases<'a> {
        let idle = if meter.available() { idle } else { Duration::ZERO };
        Phases { meter, idle, done: Vec::new(), peak: None, facts, before: Counts::default(), alone: false }
    }

    /// Begins a stage: what was counted before it belongs to none. Facts are read before the window begins.
    pub fn begin(&mut self) {
        self.peak = self.peak.max(procfs::own_memory().peak);
        self.alone = procfs::reset_peak().is_ok();
        self.before = self.facts.counts();
        self.meter.begin();
    }

    /// Ends it. Facts are read after the window has ended.
    pub fn end(&mut self, stage: Stage, tokens: u64) {
        let Lap { window_ns, sources } = self.meter.judged(self.meter.lap());
        let facts = Some(self.facts.since(&self.before));
        let peak = procfs::own_memory().peak;
        self.peak = self.peak.max(peak);
        let peak_rss_bytes = peak.filter(|_| self.alone);
        self.done.push(StageRecord { stage, window_ns, tokens, peak_rss_bytes, sources, facts });
    }

    /// Does nothing for a while, as the machine does.
    pub fn rest(&mut self, stage: Stage) {
        if !self.idle.is_zero() {
            self.begin();
            std::thread::sleep(self.idle);
            self.end(stage, 0);
        }
    }

    /// The peak of this process's resident set, over all stages.
    pub fn peak(&self) -> Option<u64> {
        self.peak.max(procfs::own_memory().peak)
    }

    /// The joules of the stage `of`, net of what the machine takes at rest.
    pub fn energy(&self, of: Stage) -> Energy {
        let Some(phase) = self.done.iter().find(|phase| phase.stage == of) else {
            return Energy::Unavailable { reason: self.meter.reason() };
        };
        let lap = Lap { window_ns: phase.window_ns, sources: phase.sources.clone() };
        let mut energy = lap.energy(phase.tokens, || self.meter.reason());
        self.net(&mut energy);
        if let Energy::Measured(joules) | Energy::Modelled(joules) = &mut energy {
            joules.doubts.extend(disagreement(&phase.sources));
        }
        energy
    }

    /// Adds what is left of `energy` without what the machine takes at rest, where that was measured.
    pub fn net(&self, energy: &mut Energy) {
        if let Energy::Measured(joules) | Energy::Modelled(joules) = energy {
            let rest = self.at_rest(&joules.source);
            let net = |watts: f64| joules.total_uj as f64 - watts * joules.window_ns as f64 / 1e3;
            joules.net_uj = rest.map(|watts| net(watts).round() as i64);
        }
    }

    /// Watts at rest by `source`, before and after together.
    fn at_rest(&self, source: &str) -> Option<f64> {
        let idle = self.done.iter().filter(|phase| matches!(phase.stage, Stage::IdleBefore | Stage::IdleAfter));
        let (mut microjoules, mut nanoseconds) = (0, 0);
        for phase in idle {
            microjoules += phase.sources.iter().find(|s| s.source == source)?.total_uj?;
            nanoseconds += phase.window_ns;
        }
        (nanoseconds > 0).then(|| microjoules as f64 * 1e3 / nanoseconds as f64)
    }

    /// Every stage.
    pub fn into_records(self) -> Vec<StageRecord> {
        self.done
    }
}

/// Two readers of RAPL that differ by more than [`READERS_DISAGREE`].
fn disagreement(sources: &[SourceEnergy]) -> Option<String> {
    let of = |name: &str| {
        let found = sources.iter().find(|s| s.source == name && s.kind == EnergyKind::Measured);
        Some(found?.total_uj? as f64 / 1e6)
    };
    let (a, b) = (of(TWINS[0])?, of(TWINS[1])?);
    let apart = (a - b).abs() / a.max(b);
    (apart > READERS_DISAGREE)
        .then(|| format!("{} and {} disagree by {:.1} %: {a:.3} J and {b:.3} J", TWINS[0], TWINS[1], apart * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_disagree_are_told() {
        let source = |name: &str, uj: Option<u64>| SourceEnergy {
            source: name.to_owned(),
            kind: EnergyKind::Measured,
            total_uj: uj,
            invalid: None,
            peak_mw: None,
            domains: Vec::new(),
            doubts: Vec::new(),
            readings: 1,
        };
        let both = |a, b| disagreement(&[source("powercap", a), source("perf", b)]);
        assert_eq!(both(Some(1_000_000), Some(1_019_000)), None);
        assert!(both(Some(1_000_000), Some(1_030_000)).unwrap().contains("disagree by 2.9 %"));
        assert_eq!(both(None, Some(1)), None);
        assert_eq!(disagreement(&[source("powercap", Some(1))]), None);
    }
}
