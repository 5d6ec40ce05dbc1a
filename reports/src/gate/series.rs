//! Rounds: what each process cost, baseline and candidate side by side.

use crate::stats::median;
use serde::{Deserialize, Serialize};
use suites::gate::Kind;
use suites::record::{Energy, Measurement};

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

/// Costs of a round: the baseline's two processes, and the candidate's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Of the baseline.
    pub baseline: [f64; 2],
    /// Of the candidate.
    pub candidate: [f64; 2],
}

impl Round {
    /// Logarithm of the candidate's cost over the baseline's, geometric means of two.
    pub fn effect(&self) -> f64 {
        let [a, b] = [self.candidate, self.baseline].map(|two| two[0].ln() / 2.0 + two[1].ln() / 2.0);
        a - b
    }
}

impl Series {
    /// The effect of each round.
    pub fn effects(&self) -> Vec<f64> {
        self.rounds.iter().map(Round::effect).collect()
    }

    /// Medians over the baseline's processes and the candidate's. `None` without rounds.
    pub fn medians(&self) -> Option<(f64, f64)> {
        let of = |side: fn(&Round) -> [f64; 2]| median(&self.rounds.iter().flat_map(side).collect::<Vec<f64>>());
        Some((of(|round| round.baseline)?, of(|round| round.candidate)?))
    }
}

/// What a process cost by a metric that is measured by rounds, in [`Kind::unit`]; `None` where its workload, or its machine, has no
/// such figure.
pub fn cost(measurement: &Measurement, kind: Kind) -> Option<f64> {
    let samples = measurement.samples.iter().filter(|sample| sample.tokens > 0 && sample.duration_ns > 0);
    let cost = match kind {
        Kind::Decode => median(&samples.flat_map(|s| s.token_ns.iter().map(|&ns| ns as f64)).collect::<Vec<_>>()),
        Kind::Prefill => {
            let batches = samples.filter(|s| s.ttft_ns.is_some());
            median(&batches.map(|s| s.duration_ns as f64 / f64::from(s.tokens)).collect::<Vec<_>>())
        }
        Kind::Ttft => median(&samples.filter_map(|s| Some(s.ttft_ns? as f64)).collect::<Vec<_>>()),
        Kind::Load => Some(measurement.load_ns as f64),
        Kind::Memory => measurement.memory.peak_rss_bytes.map(|bytes| bytes as f64),
        Kind::Joules => match &measurement.energy {
            Energy::Measured(joules) if joules.tokens > 0 => Some(joules.total_uj as f64 / joules.tokens as f64),
            _ => None,
        },
        Kind::Ratio | Kind::Accuracy | Kind::Answer | Kind::Binary => None,
    };
    cost.filter(|&cost| cost > 0.0)
}

/// [`cost`] of a round's four processes: two of the baseline, two of the candidate.
pub fn costs(baseline: [&Measurement; 2], candidate: [&Measurement; 2], kind: Kind) -> Option<Round> {
    let two = |of: [&Measurement; 2]| Some([cost(of[0], kind)?, cost(of[1], kind)?]);
    Some(Round { baseline: two(baseline)?, candidate: two(candidate)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_the_logarithm_of_a_ratio_of_geometric_means() {
        let round = Round { baseline: [100.0, 400.0], candidate: [220.0, 220.0] };
        assert!((round.effect() - 1.1f64.ln()).abs() < 1e-12);
        let series = Series { metric: "decode".into(), of: "c".into(), rounds: vec![round; 3] };
        assert_eq!(series.medians(), Some((250.0, 220.0)));
        assert_eq!(Series { rounds: Vec::new(), ..series }.medians(), None);
    }

    #[test]
    fn a_drift_within_a_round_cancels() {
        // Baseline, candidate, candidate, baseline, each a hundredth slower than the one before, in logarithms.
        let slower = |n: i32| 1000.0 * 1.01f64.powi(n);
        let round = Round { baseline: [slower(0), slower(3)], candidate: [slower(1), slower(2)] };
        assert!(round.effect().abs() < 1e-12);
    }
}
