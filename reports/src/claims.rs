//! What runs answer to the claims of papers (`suites/claims.toml`): a verdict on each, with our figure, its interval, and the
//! conditions that differ.
//!
//! A figure is judged by its 95 % interval against the band of figures that still count as the published one. Runs of one machine
//! and build answer together, each figure from the one run that has most processes; others answer apart. Nothing is averaged over runs.

mod judge;
mod latex;
mod measure;
mod show;

#[cfg(test)]
mod tests;

use crate::analysis::Analysis;
use crate::compare::machines_differ;
use crate::load::RunData;
use crate::stats::Estimate;
use std::collections::{BTreeMap, BTreeSet};
use suites::claim::Claim;
use suites::run::{Build, Machine};

pub use show::{Format, section, show};

/// Fewest processes, or blocks of a ratio, that a verdict is formed from: the interval over two is their range, which
/// covers the median with a probability of one half.
pub const MIN_BLOCKS: usize = 3;

/// What became of a claim, or of one of its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All of the interval lies on the better side of the band.
    Exceeded,
    /// All of the interval lies in the band or beyond it on the better side.
    Reproduced,
    /// Some figures are, others are not.
    Partly,
    /// All of the interval lies on the worse side of the band.
    NotReproduced,
    /// The interval reaches from the worse side into the band: more blocks would tell.
    Undecided,
    /// There is no figure; the reason is with it.
    NotTestable,
}

impl Verdict {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Exceeded => "exceeded",
            Verdict::Reproduced => "reproduced",
            Verdict::Partly => "partly",
            Verdict::NotReproduced => "not reproduced",
            Verdict::Undecided => "undecided",
            Verdict::NotTestable => "not testable here",
        }
    }

    /// Whether it says that the claim holds.
    pub fn holds(self) -> bool {
        matches!(self, Verdict::Exceeded | Verdict::Reproduced)
    }
}

/// Our figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Ours {
    /// With its interval and the processes, blocks or items behind it; one computed from a shape has neither.
    pub estimate: Estimate,
    /// `measured`, `modelled` or `derived`, and from which source.
    pub kind: String,
    /// Engines, threads and workload behind it.
    pub how: String,
    /// The run it is from; `None` of one computed from a shape.
    pub run: Option<String>,
}

/// One figure of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Model or task.
    pub of: String,
    /// As published, in the metric's unit.
    pub published: f64,
    /// The figures that count as it, the least and the most.
    pub band: (f64, f64),
    /// What became of it.
    pub verdict: Verdict,
    /// Ours, or why there is none.
    pub ours: Result<Ours, String>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The claim.
    pub claim: Claim,
    /// Over all its figures.
    pub verdict: Verdict,
    /// Each figure.
    pub parts: Vec<Part>,
    /// Whether the gain grows with size, where the claim says so and two sizes or more tell.
    pub growth: Option<String>,
    /// Conditions that differ from the paper's.
    pub differs: Vec<String>,
}

/// Runs that answer together.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Their names.
    pub runs: Vec<String>,
    /// Their machine.
    pub machine: Machine,
    /// Their program.
    pub build: Build,
    /// What a reader must know before believing a figure.
    pub warnings: Vec<String>,
    /// A claim each, in the order of the claims.
    pub answers: Vec<Answer>,
}

impl Bench {
    /// How many claims became what.
    pub fn counts(&self) -> BTreeMap<Verdict, usize> {
        let mut counts = BTreeMap::new();
        for answer in &self.answers {
            *counts.entry(answer.verdict).or_insert(0) += 1;
        }
        counts
    }
}

/// Answers every claim from `runs`. `called` has the names that models of claims go by in these runs.
pub fn answer(claims: &[Claim], runs: &[RunData], called: &BTreeMap<String, String>) -> Vec<Bench> {
    let mut benches: Vec<(&RunData, Vec<&RunData>)> = Vec::new();
    for run in runs {
        match benches.iter_mut().find(|(first, _)| together(first, run)) {
            Some((_, all)) => all.push(run),
            None => benches.push((run, vec![run])),
        }
    }
    benches.into_iter().map(|(first, all)| bench(claims, first, &all, called)).collect()
}

/// Whether two runs are of one machine and build: what varies from start to start does not set them apart.
fn together(a: &RunData, b: &RunData) -> bool {
    a.run.build == b.run.build && machines_differ(&a.run.machine, &b.run.machine).is_empty()
}

fn bench(claims: &[Claim], first: &RunData, runs: &[&RunData], called: &BTreeMap<String, String>) -> Bench {
    let analyses: Vec<Analysis> = runs.iter().map(|run| Analysis::new(run)).collect();
    let pairs: Vec<(&RunData, &Analysis)> = runs.iter().copied().zip(&analyses).collect();
    let warnings: BTreeSet<&String> = runs.iter().flat_map(|run| &run.run.warnings).collect();
    Bench {
        runs: runs.iter().map(|run| run.run.name.clone()).collect(),
        machine: first.run.machine.clone(),
        build: first.run.build.clone(),
        warnings: warnings.into_iter().cloned().collect(),
        answers: claims.iter().map(|claim| judge::answer(claim, &pairs, called)).collect(),
    }
}
