//! Our figure for a claim's, from one run, or why there is none.

use super::{MIN_BLOCKS, Ours};
use crate::analysis::Analysis;
use crate::cells::{CellSummary, Kind, Status, fastest};
use crate::compare::block_ratios;
use crate::load::RunData;
use crate::stats::{self, Estimate};
use std::collections::{BTreeMap, BTreeSet};
use suites::arithmetic::{Layers, Process, published};
use suites::cell::{KvCache, Phase, Workload};
use suites::claim::{Claim, Figure, Metric};
use suites::eval::TaskOutcome;
use suites::published::Threads;
use suites::record::{Energy, Record};

/// Tokens of the paper's sequence in its model of energy (arXiv 2504.12285, section on efficiency).
const SEQUENCE: u64 = 512;
/// Bits of a ternary weight as papers count them: log2(3), cut to two decimals.
const TERNARY_BITS: f64 = 1.58;

/// What records call the comparison with the engine's own scalar path.
const SCALAR: &str = "scalar reference";

/// Figures of processes by block.
type Blocks = Vec<(u32, f64)>;

/// A run and what it means.
pub(super) type Pair<'a> = (&'a RunData, &'a Analysis);

/// The figure of a claim about shapes alone.
///
/// # Errors
/// A model whose shape is not known.
pub(super) fn analytic(metric: Metric, of: &str) -> Result<Ours, String> {
    let models = published();
    let model =
        models.iter().find(|model| model.name == of).ok_or_else(|| format!("the shape of {of} is not known"))?;
    let weights = model.counted.weights();
    let (value, how) = if metric == Metric::WeightsGb {
        let bits = if model.layers == Layers::Ternary { TERNARY_BITS } else { 16.0 };
        (weights as f64 * bits / 8.0 / 1e9, format!("{weights} weights of its linear layers at {bits} bits"))
    } else {
        let energy = model.counted.energy(model.layers, Process::Nm7, SEQUENCE);
        (energy.total(), format!("{SEQUENCE} tokens, additions and multiplications at 7 nm, no memory traffic"))
    };
    let estimate = Estimate { value, interval: None, n: 0 };
    Ok(Ours { estimate, kind: "modelled: computed from the shape".to_owned(), how, run: None })
}

/// The figure of a claim about a machine.
///
/// # Errors
/// Why the run has none.
pub(super) fn measured(
    claim: &Claim,
    figure: &Figure,
    pair: Pair<'_>,
    called: &BTreeMap<String, String>,
) -> Result<Ours, String> {
    let (run, analysis) = pair;
    let target = &run.run.build.target;
    if let Some(isa) = claim.isa.as_ref().filter(|isa| target.split('-').next() != Some(isa.as_str())) {
        return Err(format!("speaks of {isa}; this program was built for {target}"));
    }
    if claim.metric == Metric::TokenMatch {
        return Err(no_tokens(claim, figure, run));
    }
    if claim.metric == Metric::Accuracy {
        return accuracy(claim, figure, pair, called);
    }
    if run.run.build.debug_assertions || run.run.build.opt_level == "0" {
        return Err("built with debug assertions or without optimisation: speeds mean nothing".to_owned());
    }
    let model = called.get(&figure.of).unwrap_or(&figure.of);
    let candidates = cells(analysis, run, model, &claim.candidate, claim.threads)?;
    let baselines =
        if claim.metric.compares() { cells(analysis, run, model, &claim.baseline, claim.threads)? } else { Vec::new() };
    let workload = nearest(claim, &candidates, &baselines)?;
    let with_it = |c: &&CellSummary| c.cell.workload == workload;
    let candidate = fastest(candidates.into_iter().filter(with_it)).ok_or("no cell with that workload")?;
    let baseline = fastest(baselines.into_iter().filter(with_it));
    let of = |cell: &CellSummary| blocks(claim.metric, run, cell);
    let (values, kind) = match baseline {
        Some(baseline) => {
            let ((ours, kind), (theirs, _)) = (of(candidate)?, of(baseline)?);
            let ratios = block_ratios(&ours, &theirs);
            let reduction = claim.metric == Metric::EnergyReduction;
            (ratios.iter().map(|r| if reduction { 1.0 - r } else { *r }).collect(), kind)
        }
        None => {
            let (own, kind) = of(candidate)?;
            (own.into_iter().map(|(_, value)| value).collect::<Vec<f64>>(), kind)
        }
    };
    if values.len() < MIN_BLOCKS {
        return Err(format!("{} of the {MIN_BLOCKS} processes or blocks that a verdict takes", values.len()));
    }
    let estimate = stats::estimate(&values).ok_or("figures that are no finite numbers")?;
    Ok(Ours { estimate, kind, how: how(candidate, baseline, workload), run: Some(run.run.name.clone()) })
}

fn how(candidate: &CellSummary, baseline: Option<&CellSummary>, workload: Workload) -> String {
    let one = |cell: &CellSummary| {
        let unchecked = if cell.outside { ", answers unchecked" } else { "" };
        let plural = if cell.cell.threads == 1 { "" } else { "s" };
        format!("{} ({} thread{plural}{unchecked})", cell.cell.engine, cell.cell.threads)
    };
    match baseline {
        Some(baseline) => format!("{} over {}, {workload}", one(candidate), one(baseline)),
        None => format!("{}, {workload}", one(candidate)),
    }
}

/// Measured decode cells of a model and engine with the default cache and instruction set, at the claim's threads.
fn cells<'a>(
    analysis: &'a Analysis,
    run: &RunData,
    model: &str,
    engine: &str,
    threads: Option<Threads>,
) -> Result<Vec<&'a CellSummary>, String> {
    let ours = |c: &&CellSummary| {
        let cell = &c.cell;
        let usual = cell.kv == KvCache::F16 && cell.isa.is_none() && cell.workload.phase == Phase::Decode;
        usual && cell.model == model && cell.engine == engine
    };
    let all: Vec<&CellSummary> = analysis.cells.iter().filter(ours).collect();
    if all.is_empty() {
        return Err(format!("the run has no decode cell of {model} with {engine}"));
    }
    let at: Vec<&CellSummary> = match threads {
        Some(Threads::Count(count)) => {
            let cpus = run.run.machine.cpus;
            let at: Vec<&CellSummary> = all.into_iter().filter(|c| c.cell.threads == count).collect();
            if at.is_empty() && cpus < count {
                return Err(format!("takes {count} threads; this machine has {cpus} CPUs"));
            }
            if at.is_empty() {
                return Err(format!("the run has no cell of {model} with {engine} at {count} threads"));
            }
            at
        }
        _ => all,
    };
    let measured: Vec<&CellSummary> = at.iter().copied().filter(|c| c.status.measured()).collect();
    let Some(first) = at.first().filter(|_| measured.is_empty()) else { return Ok(measured) };
    let reason = first.reason.as_deref().unwrap_or("no reason recorded");
    let what = if first.status == Status::Failed { "failed" } else { "N/A" };
    Err(format!("{engine} {what}: {reason}"))
}

/// The workload that both sides were measured with and that is nearest the claim's: at the default depth if there is one.
fn nearest(claim: &Claim, candidates: &[&CellSummary], baselines: &[&CellSummary]) -> Result<Workload, String> {
    let wanted = claim.workload.map_or(128, |w| w.tokens);
    let shared = candidates.iter().map(|c| c.cell.workload);
    let shared = shared.filter(|&w| !claim.metric.compares() || baselines.iter().any(|b| b.cell.workload == w));
    let least = shared.min_by_key(|w| (w.depth.is_some(), w.tokens.abs_diff(wanted), w.depth));
    least.ok_or_else(|| format!("{} and {} share no workload", claim.candidate, claim.baseline))
}

/// The metric of every process of a cell, and its kind.
fn blocks(metric: Metric, run: &RunData, cell: &CellSummary) -> Result<(Blocks, String), String> {
    let speeds = || cell.by_block.iter().copied();
    match metric {
        Metric::TpotMs => Ok((speeds().map(|(b, s)| (b, 1e3 / s)).collect(), Kind::Measured.name().to_owned())),
        Metric::EnergyReduction | Metric::JoulesPerToken => joules(run, cell),
        _ => Ok((speeds().collect(), Kind::Measured.name().to_owned())),
    }
}

/// Measured joules a token, never modelled ones.
fn joules(run: &RunData, cell: &CellSummary) -> Result<(Blocks, String), String> {
    let (mut found, mut sources, mut without, mut doubts) = (Vec::new(), Vec::new(), None, BTreeSet::new());
    for record in run.records.iter().filter(|r| r.cell == cell.cell) {
        let Some(measurement) = record.measurement() else { continue };
        match &measurement.energy {
            Energy::Measured(j) if j.tokens > 0 => {
                found.push((record.block, j.total_uj as f64 / 1e6 / j.tokens as f64));
                doubts.extend(&j.doubts);
                if !sources.contains(&j.source) {
                    sources.push(j.source.clone());
                }
            }
            Energy::Measured(_) => without = Some("joules of no token".to_owned()),
            Energy::Modelled(j) => without = Some(format!("joules of {} are modelled", j.source)),
            Energy::Unavailable { reason } => without = Some(reason.clone()),
        }
    }
    found.sort_by_key(|(block, _)| *block);
    if found.is_empty() {
        let reason = without.unwrap_or_else(|| format!("{} tells no joules", cell.cell.engine));
        return Err(format!("no measured joules: {reason}"));
    }
    if sources.len() > 1 {
        return Err(format!("joules are from different sources: {}", sources.join(", ")));
    }
    let kind = format!("{}, {}", Kind::Measured.name(), sources.join(", "));
    Ok((found, doubts.into_iter().fold(kind, |kind, doubt| format!("{kind}; doubt: {doubt}"))))
}

/// Why tokens can't be judged, with what the candidate's processes were compared with instead. A row of logits that equals the
/// scalar path's shows that kernels agree with each other; it says nothing of an FP32 kernel, which does not quantise activations.
fn no_tokens(claim: &Claim, figure: &Figure, run: &RunData) -> String {
    let (mut made, mut equal, mut models) = (0usize, 0usize, BTreeSet::new());
    for record in run.records.iter().filter(|r| r.cell.engine == claim.candidate) {
        let comparisons = record.measurement().map(|m| m.check.comparisons.as_slice()).unwrap_or_default();
        for one in comparisons.iter().filter(|c| c.against == SCALAR && c.bound_ppb == 0) {
            made += 1;
            equal += usize::from(one.pass);
            models.insert(&record.cell.model);
        }
    }
    let engine = &claim.candidate;
    let compared = match made {
        0 => format!("No process of {engine} was held against its scalar path either"),
        _ => format!(
            "Compared was one row of logits after a short probe, in {equal} of {made} processes of {engine} ({} model{}) equal bit for bit to \
             that of its own scalar path: this quantises activations as the kernel does, is no FP32 kernel, and one row is no continuation",
            models.len(),
            if models.len() == 1 { "" } else { "s" }
        ),
    };
    format!(
        "no record holds generated tokens beside an FP32 kernel's. Lacking are continuations of {} by {engine} and by an FP32 kernel, as in {}. \
         {compared}",
        figure.of, claim.source
    )
}

/// A task's figure of the trained model.
fn accuracy(
    claim: &Claim,
    figure: &Figure,
    (run, analysis): Pair<'_>,
    called: &BTreeMap<String, String>,
) -> Result<Ours, String> {
    let paper = claim.model.as_deref().unwrap_or_default();
    let model = called.get(paper).map_or(paper, String::as_str);
    let cells = || analysis.cells.iter().filter(|c| c.cell.model == model && c.status.measured());
    if cells().next().is_none() {
        return Err(format!("the run has no measured cell of {model}"));
    }
    let of_engine = cells().filter(|c| c.cell.engine == claim.candidate);
    let Some((cell, metric)) = of_engine.into_iter().find_map(|c| Some((c, c.metric(&figure.of)?))) else {
        return Err(format!("{} has no {} of {model}", claim.candidate, figure.of));
    };
    let estimate = metric.figure.clone()?;
    if estimate.interval.is_none() {
        return Err(format!("no interval over {} items", estimate.n));
    }
    let shots = shots(run, cell, figure);
    if let (Some(ours), Some(theirs)) = (shots, figure.shots)
        && ours != theirs
    {
        return Err(format!("asked with {ours} examples; the paper's figure is with {theirs}"));
    }
    let note = metric.note.as_deref().unwrap_or("no note");
    let how = format!("{}, {} items, {note}", cell.cell.engine, estimate.n);
    Ok(Ours { estimate, kind: Kind::Measured.name().to_owned(), how, run: Some(run.run.name.clone()) })
}

/// With how many examples the task of a figure was asked.
fn shots(run: &RunData, cell: &CellSummary, figure: &Figure) -> Option<u32> {
    let task = figure.of.split_once(':')?.1;
    let records = run.records.iter().filter(|r| r.cell == cell.cell);
    records.filter_map(Record::measurement).flat_map(|m| &m.accuracy).find_map(|outcome| match outcome {
        TaskOutcome::Ok(accuracy) if accuracy.task == task => Some(accuracy.fewshot),
        _ => None,
    })
}
