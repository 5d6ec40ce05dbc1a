//! Whether a candidate is worse than a baseline, from rounds in which both were measured side by side.
//!
//! Pure: what was measured goes in, verdicts come out (METHODOLOGY, "Gates").

mod fixed;
mod recorded;
mod rule;
mod series;
pub mod show;
mod track;
mod trials;
pub mod virtually;

pub use fixed::{accuracy, answer};
pub use recorded::judge;
pub use rule::{Next, confirm, look};
pub use series::{Round, Series, cost, round};
pub use track::{Track, go_on};
pub use trials::{Study, Tally, Trial, trials};

use serde::{Deserialize, Serialize};

/// What a gate says of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Worse by more than the threshold, seen twice.
    Regressed,
    /// It could not be told within the budget.
    Inconclusive,
    /// Better by more than the threshold, seen twice.
    Improved,
    /// Within the threshold, surely.
    Unchanged,
    /// Neither side has a figure, for the reason given.
    Na,
}

impl Verdict {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Regressed => "regressed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Improved => "improved",
            Verdict::Unchanged => "unchanged",
            Verdict::Na => "n/a",
        }
    }
}

/// A judged series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// What is said.
    pub verdict: Verdict,
    /// Logarithm of the candidate's cost over the baseline's: Hodges and Lehmann's estimate.
    pub estimate: Option<f64>,
    /// Its exact interval at the confidence of one look.
    pub interval: Option<(f64, f64)>,
    /// Rounds it rests on.
    pub n: usize,
}

impl Judged {
    /// The smallest change, as a part of the baseline, that would have been told from none: half of the interval's width.
    pub fn smallest(&self) -> Option<f64> {
        self.interval.map(|(lo, hi)| ((hi - lo) / 2.0).exp_m1())
    }
}

/// One line of a gate's outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The metric, by its name in `gates.toml`.
    pub metric: String,
    /// The cell, or what else it is of.
    pub of: String,
    /// What is said.
    pub verdict: Verdict,
    /// The candidate's cost over the baseline's less 1: above 0 it is worse. `None` where there is no figure.
    pub change: Option<f64>,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
    /// Least change that would have been told from none, where the figure is measured by rounds.
    pub smallest: Option<f64>,
    /// The least change that counts.
    pub threshold: f64,
    /// Whether rounds went on until it was clear. Of what they did not go on for, the gate does not fail to be clear.
    pub drives: bool,
    /// Rounds; `None` of what is the same every time.
    pub n: Option<usize>,
    /// Medians of baseline and candidate in `unit`.
    pub values: Option<(f64, f64)>,
    /// Their unit.
    pub unit: String,
    /// Why there is no figure, or what else is to be said.
    pub note: Option<String>,
}

impl Line {
    /// A line without any figure, which says nothing yet.
    pub fn new(metric: impl Into<String>, of: impl Into<String>) -> Line {
        Line {
            metric: metric.into(),
            of: of.into(),
            verdict: Verdict::Na,
            change: None,
            interval: None,
            smallest: None,
            threshold: 0.0,
            drives: true,
            n: None,
            values: None,
            unit: String::new(),
            note: None,
        }
    }
}

/// The outcome of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Version of this form.
    pub schema: u32,
    /// What was held against what.
    pub baseline: String,
    /// The candidate.
    pub candidate: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// How long it took, in seconds; `None` of recorded runs.
    pub seconds: Option<f64>,
    /// Every metric.
    pub lines: Vec<Line>,
}

/// [`Outcome::schema`].
pub const SCHEMA: u32 = 1;

impl Outcome {
    /// The worst that is said of any metric; `None` if nothing could be judged. That something is inconclusive counts only where rounds
    /// went on for it.
    pub fn verdict(&self) -> Option<Verdict> {
        let counts = |line: &&Line| match line.verdict {
            Verdict::Na => false,
            Verdict::Inconclusive => line.drives,
            _ => true,
        };
        self.lines.iter().filter(counts).map(|line| line.verdict).min()
    }

    /// 1 where something regressed, 2 where it could not be told of something, else 0.
    pub fn exit_code(&self) -> u8 {
        match self.verdict() {
            Some(Verdict::Regressed) => 1,
            None | Some(Verdict::Inconclusive | Verdict::Na) => 2,
            Some(Verdict::Improved | Verdict::Unchanged) => 0,
        }
    }
}
