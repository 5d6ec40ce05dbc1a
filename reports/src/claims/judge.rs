//! From figures to verdicts.

use super::measure::{Pair, analytic, measured};
use super::{Answer, Ours, Part, Verdict};
use crate::load::RunData;
use crate::stats::Estimate;
use std::collections::{BTreeMap, BTreeSet};
use suites::claim::{Claim, Figure};
use suites::published::Threads;

/// Answers a claim from the runs of a bench.
pub(super) fn answer(claim: &Claim, runs: &[Pair<'_>], called: &BTreeMap<String, String>) -> Answer {
    let part = |figure: &Figure| {
        let band = claim.band(figure);
        let ours = ours(claim, figure, runs, called);
        let verdict = ours.as_ref().map_or(Verdict::NotTestable, |o| of_figure(o.estimate, band, claim.metric.falls()));
        Part { of: figure.of.clone(), published: figure.value, band, verdict, ours }
    };
    let parts: Vec<Part> = claim.figures.iter().map(part).collect();
    let verdict = overall(&parts);
    let growth = claim.grows.then(|| growth(&parts)).flatten();
    let differs = if verdict == Verdict::NotTestable || claim.metric.analytic() {
        Vec::new()
    } else {
        differs(claim, &parts, runs)
    };
    Answer { claim: claim.clone(), verdict, parts, growth, differs }
}

/// Of the runs that have the figure, the one with most processes; the later of equals. The last reason where none has it, but one that
/// is more than the want of a cell before it.
fn ours(claim: &Claim, figure: &Figure, runs: &[Pair<'_>], called: &BTreeMap<String, String>) -> Result<Ours, String> {
    if claim.metric.analytic() {
        return analytic(claim.metric, &figure.of);
    }
    let mut best: Option<(usize, &RunData, Ours)> = None;
    let mut reason: Option<String> = None;
    for &pair in runs {
        match measured(claim, figure, pair, called) {
            Ok(found) => {
                let n = found.estimate.n;
                let better =
                    |(most, run, _): &(usize, &RunData, Ours)| (n, &pair.0.run.started) >= (*most, &run.run.started);
                if best.as_ref().is_none_or(better) {
                    best = Some((n, pair.0, found));
                }
            }
            Err(why) => {
                if reason.as_ref().is_none_or(|known| known.starts_with("the run has no")) {
                    reason = Some(why);
                }
            }
        }
    }
    best.map(|(_, _, found)| found).ok_or_else(|| reason.unwrap_or_else(|| "no run".to_owned()))
}

/// Judges an interval against the band of figures that count as the published one. A figure without interval is computed, not
/// sampled, and judged as it is: it is the published one or it is not.
pub(super) fn of_figure(ours: Estimate, (low, high): (f64, f64), falls: bool) -> Verdict {
    let Some((lo, hi)) = ours.interval else {
        return if (low..=high).contains(&ours.value) { Verdict::Reproduced } else { Verdict::NotReproduced };
    };
    // As if more were better: of what falls, the signs are turned round.
    let (lo, hi, low, high) = if falls { (-hi, -lo, -high, -low) } else { (lo, hi, low, high) };
    if lo > high {
        Verdict::Exceeded
    } else if hi < low {
        Verdict::NotReproduced
    } else if lo >= low {
        Verdict::Reproduced
    } else {
        Verdict::Undecided
    }
}

/// A claim holds if every figure that could be tested does; one that fails by the side of one that holds makes it hold partly.
pub(super) fn overall(parts: &[Part]) -> Verdict {
    let count = |of: fn(Verdict) -> bool| parts.iter().filter(|part| of(part.verdict)).count();
    let holds = count(Verdict::holds);
    let exceeded = count(|v| v == Verdict::Exceeded);
    let fails = count(|v| v == Verdict::NotReproduced);
    let open = count(|v| v == Verdict::Undecided);
    match (holds, fails, open) {
        (0, 0, 0) => Verdict::NotTestable,
        (0, 0, _) => Verdict::Undecided,
        (0, _, _) => Verdict::NotReproduced,
        (_, 0, 0) if exceeded == holds => Verdict::Exceeded,
        (_, 0, 0) => Verdict::Reproduced,
        _ => Verdict::Partly,
    }
}

/// Whether the biggest tested size gains more than the least, beyond both intervals.
fn growth(parts: &[Part]) -> Option<String> {
    let tested: Vec<(&str, (f64, f64))> =
        parts.iter().filter_map(|p| Some((p.of.as_str(), p.ours.as_ref().ok()?.estimate.interval?))).collect();
    let ((small, (low, high)), (big, (from, to))) = (tested.first()?, tested.get(1..)?.last()?);
    let said = if from > high {
        "grows with size"
    } else if to < low {
        "falls with size"
    } else {
        "may or may not grow with size"
    };
    Some(format!("the gain {said} from {small} to {big}"))
}

/// Conditions that differ from the paper's, and those that could differ and do not.
fn differs(claim: &Claim, parts: &[Part], runs: &[Pair<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    let Some((run, _)) = runs.first() else { return found };
    let machine = &run.run.machine;
    if let Some(device) = &claim.device {
        let virtualised = machine.virtualisation.as_ref().map_or(String::new(), |by| format!(", virtualised ({by})"));
        found.push(format!("machine: {}, {} CPUs{virtualised}; the paper's: {device}", machine.cpu, machine.cpus));
    }
    let hows: BTreeSet<&str> = parts.iter().filter_map(|p| Some(p.ours.as_ref().ok()?.how.as_str())).collect();
    let ours = hows.into_iter().collect::<Vec<_>>().join("; ");
    if let Some(theirs) = &claim.theirs {
        found.push(format!("engines: {ours}; the paper's: {theirs}"));
    } else if !ours.is_empty() {
        found.push(format!("here: {ours}"));
    }
    match claim.threads {
        Some(Threads::Best) => {
            found.push("threads: the fastest count of those run, of each engine by itself, as in the paper".to_owned())
        }
        Some(Threads::Count(count)) => found.push(format!("threads: {count}, as in the paper")),
        None => {}
    }
    let untested: Vec<&str> = parts.iter().filter(|p| p.ours.is_err()).map(|p| p.of.as_str()).collect();
    if !untested.is_empty() {
        found.push(format!("not tested: {}", untested.join(", ")));
    }
    found
}
