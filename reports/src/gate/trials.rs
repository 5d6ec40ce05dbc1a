//! Gates whose right answer is known: how often they were wrong, how often they found what was planted.

use super::{Outcome, Series, Verdict};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// What is done to the candidate of a study's gates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Study {
    /// Nothing: the same program on both sides.
    Aa,
    /// The same, while a command is run again and again beside them.
    Noisy {
        /// The command, as the shell reads it.
        neighbour: String,
    },
    /// Its decode is slower by so many per cent.
    Planted {
        /// Per cent of a token's time.
        percent: f64,
    },
}

impl Study {
    /// By how many per cent the candidate's decode is slower.
    pub fn percent(&self) -> f64 {
        if let Study::Planted { percent } = self { *percent } else { 0.0 }
    }

    /// The command that is run beside the gates.
    pub fn neighbour(&self) -> Option<&str> {
        if let Study::Noisy { neighbour } = self { Some(neighbour) } else { None }
    }
}

impl fmt::Display for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Study::Aa => f.write_str("the same program on both sides"),
            Study::Noisy { neighbour } => write!(f, "the same program on both sides, beside `{neighbour}`"),
            Study::Planted { percent } => write!(f, "a decode slower by {percent} %"),
        }
    }
}

/// One gate of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What was done.
    pub study: Study,
    /// What the gate said.
    pub outcome: Outcome,
    /// The rounds it rests on.
    pub series: Vec<Series>,
}

/// The trials of a file. A torn last line is none.
///
/// # Errors
/// A file that can't be read, a line that is no trial.
pub fn trials(path: &Path) -> Result<Vec<Trial>, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let read = |(index, line): (usize, &[u8])| {
        let parse =
            |e: serde_json::Error| Error::Parse { path: path.to_owned(), line: index + 1, message: e.to_string() };
        serde_json::from_slice(line).map_err(parse)
    };
    lines.map(read).collect()
}

/// How many of a study's gates said what.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Gates.
    pub gates: u32,
    /// Those that said of anything that it regressed or improved, though nothing was changed; of a planted study, those that said so
    /// of anything but decode, its joules and its instructions.
    pub alarms: u32,
    /// Those that said of decode that it regressed.
    pub found: u32,
    /// Those that could not tell of something that rounds went on for.
    pub inconclusive: u32,
    /// Length of the longest, in seconds; `None` of none.
    pub longest: Option<f64>,
}

impl Tally {
    /// Counts.
    pub fn of(trials: &[Trial]) -> Tally {
        let mut tally = Tally::default();
        for trial in trials {
            let planted = trial.study.percent() > 0.0;
            let slowed = |metric: &str| planted && matches!(metric, "decode" | "joules" | "pmu");
            let changed = |verdict| matches!(verdict, Verdict::Regressed | Verdict::Improved);
            let any = |wanted: &dyn Fn(&super::Line) -> bool| u32::from(trial.outcome.lines.iter().any(wanted));
            tally.gates += 1;
            tally.alarms += any(&|line| changed(line.verdict) && !slowed(&line.metric));
            tally.found += any(&|line| line.verdict == Verdict::Regressed && line.metric == "decode");
            tally.inconclusive += any(&|line| line.verdict == Verdict::Inconclusive && line.drives);
            tally.longest = tally.longest.into_iter().chain(trial.outcome.seconds).reduce(f64::max);
        }
        tally
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { gates, alarms, found, inconclusive, longest } = self;
        write!(
            f,
            "{gates} gates: {found} found decode slower, {alarms} false alarms, {inconclusive} inconclusive of something"
        )?;
        longest.map_or(Ok(()), |seconds| write!(f, "; the longest took {seconds:.0} s"))
    }
}
