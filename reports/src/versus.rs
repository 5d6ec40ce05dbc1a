//! Two recorded runs held against each other, cell by cell: ratios with intervals, and what keeps two runs from being compared.
//!
//! Nothing is judged here and nothing averaged over runs: each figure is the factor from one run's processes to the
//! other's, and what a machine drifts by from one run to the next, which no interval within them can know of, is told beside it.

mod lines;
mod show;

use crate::analysis::Analysis;
use crate::cells::CellSummary;
use crate::class::{BuildClass, MachineClass};
use crate::error::Error;
use crate::load::RunData;
use crate::ranks::ratio;
use crate::sheet::Figure;
use crate::stats::geometric_mean;
use serde::Serialize;
use std::collections::BTreeMap;
use suites::cell::Cell;
use suites::run::{Machine, Run};

use lines::Processes;
pub use show::show;

/// Two runs of one machine, build class, suite and models.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Versus {
    /// The run that is divided by.
    pub baseline: Side,
    /// The run that is divided.
    pub candidate: Side,
    /// By how much times of one machine drift from run to run, as a part.
    pub drift: f64,
    /// Figures of the cells that both measured.
    pub cells: Vec<Line>,
    /// Geometric means of the ratios of speed over those cells.
    pub means: Vec<Mean>,
    /// Cells that one of them alone measured, or neither.
    pub unpaired: Vec<Unpaired>,
}

/// One of the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// Its name.
    pub run: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// Git revision of its program, with `-dirty` where files differed from it.
    pub revision: Option<String>,
    /// What a reader of its figures must know.
    pub warnings: Vec<String>,
}

/// One metric of a cell in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// [`Cell::id`].
    pub cell: String,
    /// Name as in `summary.csv`.
    pub metric: &'static str,
    /// Unit of the two medians.
    pub unit: &'static str,
    /// Median over the baseline's processes.
    pub baseline: Option<f64>,
    /// Median over the candidate's.
    pub candidate: Option<f64>,
    /// The baseline's processes that have the figure: one a block.
    pub baseline_n: usize,
    /// The candidate's.
    pub candidate_n: usize,
    /// Candidate over baseline: [`ratio`] of the processes.
    pub ratio: Option<Figure>,
    /// What the interval says.
    pub change: Change,
    /// `measured` or `modelled`.
    pub kind: &'static str,
    /// Of joules their source; why there is no ratio; what differs in what ran.
    pub notes: Vec<String>,
}

/// What an interval says once the machine's drift is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// All of it lies above 1 and the drift.
    Higher,
    /// All of it lies below.
    Lower,
    /// It reaches into what drift alone may do, or to 1.
    NotToldApart,
    /// There is none.
    Unknown,
}

impl Change {
    fn of(ratio: Option<&Figure>, drift: f64) -> Change {
        match ratio.and_then(|ratio| Some((ratio.lo?, ratio.hi?))) {
            Some((lo, _)) if lo > 1.0 + drift => Change::Higher,
            Some((_, hi)) if hi < 1.0 / (1.0 + drift) => Change::Lower,
            Some(_) => Change::NotToldApart,
            None => Change::Unknown,
        }
    }

    /// The name in tables and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Change::Higher => "higher",
            Change::Lower => "lower",
            Change::NotToldApart => "not-told-apart",
            Change::Unknown => "unknown",
        }
    }
}

/// The geometric mean of ratios of speed over cells that both runs measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// `all`, an engine, or a workload.
    pub of: String,
    /// Cells in it.
    pub cells: usize,
    /// Cells that one run alone measured: not in it.
    pub left_out: usize,
    /// In each block that holds all of the cells their geometric mean of tokens/s; the factor from one run's such blocks to the
    /// other's. `None` if no block of a run holds all.
    pub ratio: Option<Figure>,
    /// What the interval says.
    pub change: Change,
}

/// A cell without a ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unpaired {
    /// [`Cell::id`].
    pub cell: String,
    /// What became of it in the baseline.
    pub baseline: String,
    /// What became of it in the candidate.
    pub candidate: String,
}

/// What keeps two runs from being compared, each by its field with both values; nothing if they can be. The revision is what a
/// comparison is about and never among them.
pub fn differences(one: &Run, other: &Run) -> Vec<String> {
    let mut found = machines(&one.machine, &other.machine);
    found.extend(BuildClass::from(one).differs(&BuildClass::from(other)));
    let mut hold = |what: String, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        let (a, b) = (format!("{a:?}"), format!("{b:?}"));
        if a != b {
            found.push(format!("{what}: {a} and {b}"));
        }
    };
    hold("schema of the records".to_owned(), &one.schema, &other.schema);
    hold("suite".to_owned(), &one.suite, &other.suite);
    if one.suite == other.suite {
        hold("text of the suite (cells, windows, blocks)".to_owned(), &one.suite_digest, &other.suite_digest);
    }
    let names = |run: &Run| run.models.iter().map(|m| (m.name.clone(), m.digest.clone())).collect::<BTreeMap<_, _>>();
    let others = names(other);
    for (name, digest) in names(one) {
        if let Some(second) = others.get(&name) {
            hold(format!("digest of model `{name}`"), &digest, second);
        }
    }
    for engine in &one.outside {
        let Some(second) = other.outside.iter().find(|second| second.name == engine.name) else { continue };
        for model in &engine.models {
            if let Some(file) = second.models.iter().find(|file| file.model == model.model) {
                let what = format!("file of model `{}` for the outside engine `{}`", model.model, engine.name);
                hold(what, &model.file.digest, &file.file.digest);
            }
        }
    }
    found
}

fn machines(one: &Machine, other: &Machine) -> Vec<String> {
    let (one, other) = (MachineClass::from(one), MachineClass::from(other));
    let value = |class: &MachineClass, field: &str| match field {
        "CPU" => format!("{:?}", class.cpu),
        "number of CPUs" => class.cpus.to_string(),
        "number of cores" => format!("{:?}", class.cores),
        "instruction sets" => format!("{:?}", class.isa),
        "virtualisation" => format!("{:?}", class.virtualisation),
        "governor" => format!("{:?}", class.governor),
        _ => format!("{:?}", class.turbo),
    };
    let told = |field: &'static str| format!("machine's {field}: {} and {}", value(&one, field), value(&other, field));
    one.differs(&other).into_iter().map(told).collect()
}

/// Holds `candidate` against `baseline`. `drift` is what times of one machine differ by from run to run.
///
/// # Errors
/// [`Error::Mixed`] with every field that keeps them from being compared.
pub fn compare(baseline: &RunData, candidate: &RunData, drift: f64) -> Result<Versus, Error> {
    let differ = differences(&baseline.run, &candidate.run);
    if !differ.is_empty() {
        let (one, other) = (&baseline.run.name, &candidate.run.name);
        return Err(Error::Mixed(format!("runs {one} and {other} can't be compared: {}", differ.join("; "))));
    }
    let analyses = [Analysis::new(baseline), Analysis::new(candidate)];
    let [before, after] = analyses.each_ref().map(|a| a.cells.iter().map(|c| (&c.cell, c)).collect::<BTreeMap<_, _>>());
    let added = analyses[1].cells.iter().filter(|c| !before.contains_key(&c.cell));
    let (mut cells, mut unpaired, mut shared) = (Vec::new(), Vec::new(), Vec::new());
    for cell in analyses[0].cells.iter().chain(added).map(|c| &c.cell) {
        match (before.get(cell), after.get(cell)) {
            (Some(a), Some(b)) if a.status.measured() && b.status.measured() => {
                let sides = [Processes::of(a, baseline), Processes::of(b, candidate)];
                cells.extend(lines::of_cell(&sides, drift));
                shared.push((*a, *b));
            }
            (a, b) => unpaired.push((cell, a.copied(), b.copied())),
        }
    }
    Ok(Versus {
        baseline: side(&baseline.run),
        candidate: side(&candidate.run),
        drift,
        cells,
        means: means(&shared, &unpaired, drift),
        unpaired: unpaired.into_iter().map(state).collect(),
    })
}

fn side(run: &Run) -> Side {
    let dirty = if run.build.git_dirty == Some(true) { "-dirty" } else { "" };
    Side {
        run: run.name.clone(),
        started: run.started.clone(),
        revision: run.build.git_revision.as_ref().map(|revision| format!("{revision}{dirty}")),
        warnings: run.warnings.clone(),
    }
}

type Apart<'a> = (&'a Cell, Option<&'a CellSummary>, Option<&'a CellSummary>);

fn state((cell, baseline, candidate): Apart<'_>) -> Unpaired {
    let told = |summary: Option<&CellSummary>| match summary {
        None => "not in the run".to_owned(),
        Some(c) if c.status.measured() => "measured".to_owned(),
        Some(c) => format!("{}: {}", c.status.name(), c.reason.as_deref().unwrap_or("no reason recorded")),
    };
    Unpaired { cell: cell.id(), baseline: told(baseline), candidate: told(candidate) }
}

/// Over all shared cells, and over those of each engine and each workload where there are several; of two cells or more.
fn means(shared: &[(&CellSummary, &CellSummary)], apart: &[Apart<'_>], drift: f64) -> Vec<Mean> {
    let mut groups = vec![("all".to_owned(), None)];
    let names = |of: fn(&Cell) -> String| {
        let mut names: Vec<String> = Vec::new();
        for name in shared.iter().map(|(a, _)| of(&a.cell)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    let kinds: [fn(&Cell) -> String; 2] = [|cell| cell.engine.clone(), |cell| cell.workload.to_string()];
    for of in kinds {
        let names = names(of);
        if names.len() > 1 {
            groups.extend(names.into_iter().map(|name| (name, Some(of))));
        }
    }
    let mut found = Vec::new();
    for (name, of) in groups {
        let member = |cell: &Cell| of.is_none_or(|of| of(cell) == name);
        let own: Vec<_> = shared.iter().filter(|(a, _)| member(&a.cell)).collect();
        if own.len() < 2 {
            continue;
        }
        let one = |c: &Option<&CellSummary>| c.is_some_and(|c| c.status.measured());
        let left_out = apart.iter().filter(|(cell, a, b)| member(cell) && (one(a) || one(b))).count();
        let [before, after] = [
            block_means(&own.iter().map(|(a, _)| a.by_block.as_slice()).collect::<Vec<_>>()),
            block_means(&own.iter().map(|(_, b)| b.by_block.as_slice()).collect::<Vec<_>>()),
        ]
        .map(|blocks| blocks.into_values().collect::<Vec<f64>>());
        let ratio = ratio(&after, &before).map(Figure::from);
        let change = Change::of(ratio.as_ref(), drift);
        found.push(Mean { of: name, cells: own.len(), left_out, ratio, change });
    }
    found
}

/// Within each block that holds all of `cells`, given by their figures by block, the figures' geometric mean.
pub(crate) fn block_means(cells: &[&[(u32, f64)]]) -> BTreeMap<u32, f64> {
    let mut by_block: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for &(block, figure) in cells.iter().copied().flatten() {
        by_block.entry(block).or_default().push(figure);
    }
    let whole = by_block.into_iter().filter(|(_, figures)| figures.len() == cells.len());
    whole.filter_map(|(block, figures)| Some((block, geometric_mean(&figures)?))).collect()
}
