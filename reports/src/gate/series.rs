//! Rounds: what each process cost, baseline and candidate side by side.

use crate::stats::median;
use serde::{Deserialize, Serialize};
use suites::gate::Kind;
use suites::record::{Energy, Measurement, Sample, Stage};

/// The rounds of one metric of one cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The metric, by its name in `gates.toml`.
    pub metric: String,
    /// The cell.
    pub of: String,
    /// Each round's costs, of two processes of the baseline and two of the candidate. They ran in the order baseline, candidate,
    /// candidate, baseline, or the other way round, so that a drift of the machine cancels.
    pub rounds: Vec<Round>,
}

/// A round: a process of either side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// What the baseline's process cost, the median of its windows.
    pub baseline: f64,
    /// What the candidate's did.
    pub candidate: f64,
    /// Logarithm of the candidate's cost over the baseline's: above 0 it is worse. Where both took turns, the median over fours of
    /// turns, in each of which two windows of either side ran in the order A, B, B, A, so that a drift of the machine cancels.
    pub effect: f64,
}

impl Round {
    /// This round's cost over that of another, as a round of its own.
    pub fn over(&self, other: &Round) -> Round {
        Round {
            baseline: self.baseline / other.baseline,
            candidate: self.candidate / other.candidate,
            effect: self.effect - other.effect,
        }
    }
}

impl Series {
    /// The effect of each round.
    pub fn effects(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| round.effect).collect()
    }

    /// Medians over the baseline's processes and the candidate's. `None` without rounds.
    pub fn medians(&self) -> Option<(f64, f64)> {
        let of = |side: fn(&Round) -> f64| median(&self.rounds.iter().map(side).collect::<Vec<f64>>());
        Some((of(|round| round.baseline)?, of(|round| round.candidate)?))
    }
}

/// What a process cost by a metric that is measured by rounds, in [`Kind::unit`]; `None` where its workload, or its machine, has no
/// such figure.
pub fn cost(measurement: &Measurement, kind: Kind) -> Option<f64> {
    let windows =
        |cost: fn(&Sample) -> Option<f64>| median(&measurement.samples.iter().filter_map(cost).collect::<Vec<_>>());
    let cost = match kind {
        Kind::Decode => {
            let tokens = measurement.samples.iter().flat_map(|s| s.token_ns.iter().map(|&ns| ns as f64));
            median(&tokens.collect::<Vec<_>>())
        }
        Kind::Prefill => windows(|sample| of_window(sample, Kind::Prefill)),
        Kind::Ttft => windows(|sample| of_window(sample, Kind::Ttft)),
        Kind::Load => Some(measurement.load_ns as f64),
        Kind::Memory => memory(measurement).map(|bytes| bytes as f64),
        Kind::Joules => match &measurement.energy {
            Energy::Measured(joules) if joules.tokens > 0 => Some(joules.total_uj as f64 / joules.tokens as f64),
            _ => None,
        },
        Kind::Pmu => instructions(measurement),
        Kind::Ratio | Kind::Accuracy | Kind::Answer | Kind::Binary | Kind::Instructions => None,
    };
    cost.filter(|&cost| cost > 0.0)
}

/// A process's peak resident set without the pages of the program itself: how many of those the kernel maps rests on the page cache,
/// so that they differ between two builds of the same source.
fn memory(measurement: &Measurement) -> Option<u64> {
    let memory = &measurement.memory;
    memory.peak_rss_bytes?.checked_sub(memory.rss_program_bytes?)
}

/// Instructions of a token by the CPU's counter, which counts a process's last windows. `None` where it did not count all the time,
/// and of several threads, as those that wait for one another run more or fewer.
fn instructions(measurement: &Measurement) -> Option<f64> {
    let [thread] = &measurement.thread_counters[..] else { return None };
    let counter = thread.counters.iter().find(|counter| counter.name == "instructions")?;
    let whole = counter.running_ns == counter.enabled_ns;
    let of = |stage: Stage| measurement.phases.iter().find(|phase| phase.stage == stage);
    // A deep decode cell has a stage of both: its windows are the decode.
    let windows = of(Stage::Decode).or_else(|| of(Stage::Prefill))?;
    counter.value.filter(|_| whole && windows.tokens > 0).map(|count| count as f64 / windows.tokens as f64)
}

/// What a window cost, by a metric that windows have.
fn of_window(sample: &Sample, kind: Kind) -> Option<f64> {
    let cost = match kind {
        Kind::Decode => median(&sample.token_ns.iter().map(|&ns| ns as f64).collect::<Vec<_>>()),
        Kind::Prefill => {
            sample.ttft_ns.filter(|_| sample.tokens > 0).map(|_| sample.duration_ns as f64 / f64::from(sample.tokens))
        }
        Kind::Ttft => sample.ttft_ns.map(|ns| ns as f64),
        _ => None,
    };
    cost.filter(|&cost| cost > 0.0)
}

/// A round of two processes that took turns, by a metric that is measured by rounds; `None` where either has no such figure.
pub fn round(baseline: &Measurement, candidate: &Measurement, kind: Kind) -> Option<Round> {
    let (before, after) = (cost(baseline, kind)?, cost(candidate, kind)?);
    let logs = |of: &Measurement| -> Vec<f64> {
        of.samples.iter().map(|sample| of_window(sample, kind).map_or(f64::NAN, f64::ln)).collect()
    };
    let (a, b) = (logs(baseline), logs(candidate));
    let fours = a.chunks_exact(2).zip(b.chunks_exact(2)).map(|(a, b)| (b[0] - a[0] + (b[1] - a[1])) / 2.0);
    let effects: Vec<f64> = fours.filter(|effect| effect.is_finite()).collect();
    // What a process has one figure of has no turns.
    let effect = median(&effects).unwrap_or_else(|| after.ln() - before.ln());
    Some(Round { baseline: before, candidate: after, effect })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A measurement whose windows have one token each, of so many nanoseconds.
    fn windows(ns: &[u64]) -> Measurement {
        let sample = |&ns| Sample { tokens: 1, duration_ns: ns, ttft_ns: None, token_ns: vec![ns] };
        let samples: Vec<Sample> = ns.iter().map(sample).collect();
        let measurement = serde_json::json!({
            "ran": {"isa": "", "linear": "", "head": "", "kv": "", "profile": "", "pinned": true},
            "load_ns": 1000 * ns[0],
            "samples": samples,
            "footprint": {"weights_bytes": 1, "linear_bytes": 1, "read_per_token_bytes": 1, "kv_bytes": 1},
            "memory": {"peak_rss_bytes": 1, "rss_anon_bytes": 1, "rss_file_bytes": 1, "predicted_bytes": 1},
            "energy": {"kind": "unavailable", "reason": ""},
            "counters": [],
            "check": {"digest": "", "argmax": 0, "comparisons": []},
            "interference": {"steal_ns": null, "involuntary_switches": null, "load_milli": null},
        });
        serde_json::from_value(measurement).unwrap()
    }

    #[test]
    fn an_effect_is_the_median_over_fours_of_turns() {
        // 10 % slower, but in the last four, which a neighbour disturbed.
        let (a, b) = (windows(&[100, 400, 200, 200, 100, 100]), windows(&[220, 220, 220, 220, 500, 500]));
        let found = round(&a, &b, Kind::Decode).unwrap();
        assert!((found.effect - 1.1f64.ln()).abs() < 1e-12, "{found:?}");
        assert_eq!((found.baseline, found.candidate), (150.0, 220.0));
        let series = Series { metric: "decode".into(), of: "c".into(), rounds: vec![found; 3] };
        assert_eq!(series.medians(), Some((150.0, 220.0)));
        assert_eq!(Series { rounds: Vec::new(), ..series }.medians(), None);
        // A figure of the process.
        let found = round(&a, &b, Kind::Load).unwrap();
        assert!((found.effect - 2.2f64.ln()).abs() < 1e-12, "{found:?}");
        assert_eq!(round(&a, &b, Kind::Prefill), None);
    }

    #[test]
    fn memory_is_without_the_pages_of_the_program() {
        let mut measured = windows(&[100]);
        let mut of = |peak, program| {
            (measured.memory.peak_rss_bytes, measured.memory.rss_program_bytes) = (peak, program);
            cost(&measured, Kind::Memory)
        };
        assert_eq!(of(Some(900), Some(200)), Some(700.0));
        assert_eq!((of(Some(900), None), of(None, Some(200)), of(Some(100), Some(200))), (None, None, None));
    }

    #[test]
    fn instructions_are_of_the_windows_tokens_and_of_a_counter_that_ran_all_the_time() {
        let mut measured = windows(&[100, 100]);
        let mut counter = |value: Option<u64>, running, threads| {
            let stage = |stage: &str, tokens| serde_json::json!({"stage": stage, "window_ns": 1, "tokens": tokens, "sources": []});
            measured.phases =
                serde_json::from_value(serde_json::json!([stage("prefill", 4096), stage("decode", 16)])).unwrap();
            let thread = serde_json::json!({"thread": 0, "counters": [
                {"name": "context-switches", "value": 3, "enabled_ns": 9, "running_ns": 9},
                {"name": "instructions", "value": value, "enabled_ns": 9, "running_ns": running},
            ]});
            measured.thread_counters = serde_json::from_value(vec![thread; threads].into()).unwrap();
            cost(&measured, Kind::Pmu)
        };
        assert_eq!(counter(Some(3200), 9, 1), Some(200.0));
        assert_eq!((counter(Some(3200), 8, 1), counter(None, 9, 1)), (None, None), "it did not count all the time");
        assert_eq!((counter(Some(3200), 9, 2), counter(Some(3200), 9, 0)), (None, None), "of one thread alone");
        assert_eq!(cost(&windows(&[100]), Kind::Pmu), None);
    }

    #[test]
    fn a_drift_within_four_turns_cancels() {
        // Baseline, candidate, candidate, baseline, each twice as slow as the one before.
        let found = round(&windows(&[1000, 8000]), &windows(&[2000, 4000]), Kind::Decode).unwrap();
        assert!(found.effect.abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn a_ratio_has_the_difference_of_effects() {
        let of = |baseline, candidate, effect| Round { baseline, candidate, effect };
        assert_eq!(of(1.0, 3.0, 0.5).over(&of(2.0, 4.0, 0.25)), of(0.5, 0.75, 0.25));
    }
}
