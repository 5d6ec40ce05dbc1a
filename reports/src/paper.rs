//! Tables as papers print them (arXiv 2410.16144, tables 4 and 5): sizes across, engines down, a block for each workload
//! and thread count, speed-ups and joules below the speeds.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind, Status, fastest};
use crate::compare::block_ratios;
use crate::load::RunData;
use crate::stats::{Estimate, estimate};
use suites::cell::{Phase, Workload};

pub use suites::published::Threads;

/// Which blocks and columns are wanted; an empty list wants all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Workloads.
    pub workloads: Vec<Workload>,
    /// Thread counts, in this order.
    pub threads: Vec<Threads>,
    /// Models.
    pub models: Vec<String>,
    /// Engines, outside ones by their names in the run.
    pub engines: Vec<String>,
}

/// One table: sizes across, engines down.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What was timed.
    pub workload: Workload,
    /// What else sets its cells apart (` kv-f32 isa-avx2`); empty by default.
    pub variant: String,
    /// With how many threads.
    pub threads: Threads,
    /// Names of the models, smallest first: the columns.
    pub models: Vec<String>,
    /// Speeds, then speed-ups, then joules.
    pub rows: Vec<Row>,
}

impl Block {
    /// `Decode, tg128, 2 threads`.
    pub fn title(&self) -> String {
        let phase = match self.workload.phase {
            Phase::Prefill => "Prefill",
            Phase::Decode => "Decode",
        };
        format!("{phase}, {}{}, {}", self.workload, self.variant, self.threads)
    }
}

/// What a row's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Tokens/s.
    Speed,
    /// Tokens/s over those of another engine, divided block by block.
    Speedup,
    /// J/token.
    Joules,
}

impl Quantity {
    /// Metric and unit, as in `summary.csv`.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Quantity::Speed => ("tokens_per_second", "tokens/s"),
            Quantity::Speedup => ("speedup", "x"),
            Quantity::Joules => ("joules_per_token", "J/token"),
        }
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What its figures are.
    pub quantity: Quantity,
    /// The engine, marked if an outside one.
    pub engine: String,
    /// The engine that speeds are divided by.
    pub against: Option<String>,
    /// An entry a model; `None` where nothing was planned.
    pub entries: Vec<Option<Entry>>,
}

impl Row {
    /// `ternary`, `ternary / f16`, `ternary, J/token`.
    pub fn label(&self) -> String {
        match (&self.against, self.quantity) {
            (Some(against), _) => format!("{} / {against}", self.engine),
            (None, Quantity::Joules) => format!("{}, J/token", self.engine),
            (None, _) => self.engine.clone(),
        }
    }
}

/// One figure, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What became of the cell or, of a ratio, of the two.
    pub status: Status,
    /// The figure; `None` unless measured.
    pub figure: Option<Estimate>,
    /// Whether it was measured, modelled, or derived from measured figures.
    pub kind: Kind,
    /// Threads of the cell; of a ratio, of both.
    pub threads: Vec<u32>,
    /// Why there is no figure, or what must be known of it: a footnote.
    pub note: Option<String>,
}

/// All blocks of a run that `selection` wants: of each workload the best thread count (where there are several), then
/// each count.
pub fn blocks(data: &RunData, selection: &Selection) -> Vec<Block> {
    let analysis = Analysis::new(data);
    let mut blocks = Vec::new();
    let wanted = |workload: &Workload| selection.workloads.is_empty() || selection.workloads.contains(workload);
    for workload in analysis.workloads().into_iter().filter(wanted) {
        let among = |wanted: &[String], name: &String| wanted.is_empty() || wanted.contains(name);
        let chosen = |c: &&CellSummary| {
            c.cell.workload == workload
                && among(&selection.models, &c.cell.model)
                && among(&selection.engines, &c.cell.engine)
        };
        let cells: Vec<&CellSummary> = analysis.cells.iter().filter(chosen).collect();
        let mut variants: Vec<String> = cells.iter().map(|c| variant(&c.cell)).collect();
        variants.sort_unstable();
        variants.dedup();
        for variant_name in variants {
            let cells: Vec<&CellSummary> = cells.iter().copied().filter(|c| variant(&c.cell) == variant_name).collect();
            for threads in thread_counts(&cells, selection) {
                let grid = Grid { analysis: &analysis, cells: &cells, threads, models: models(&analysis, &cells) };
                let rows = grid.rows();
                blocks.push(Block { workload, variant: variant_name.clone(), threads, models: grid.models, rows });
            }
        }
    }
    blocks
}

fn thread_counts(cells: &[&CellSummary], selection: &Selection) -> Vec<Threads> {
    let mut counts: Vec<u32> = cells.iter().map(|c| c.cell.threads).collect();
    counts.sort_unstable();
    counts.dedup();
    if selection.threads.is_empty() {
        let best = (counts.len() > 1).then_some(Threads::Best);
        return best.into_iter().chain(counts.into_iter().map(Threads::Count)).collect();
    }
    let occurs = |threads: &Threads| counts.iter().any(|&count| threads.fits(count));
    selection.threads.iter().copied().filter(occurs).collect()
}

fn models(analysis: &Analysis, cells: &[&CellSummary]) -> Vec<String> {
    let used = |name: &&String| cells.iter().any(|c| c.cell.model == **name);
    analysis.models.iter().map(|m| &m.name).filter(used).cloned().collect()
}

/// The cells of one block.
struct Grid<'a> {
    analysis: &'a Analysis,
    cells: &'a [&'a CellSummary],
    threads: Threads,
    models: Vec<String>,
}

impl<'a> Grid<'a> {
    fn rows(&self) -> Vec<Row> {
        let used = |engine: &&String| self.models.iter().any(|model| self.pick(engine, model).is_some());
        let engines: Vec<&String> = self.analysis.engines.iter().filter(used).collect();
        let mut rows: Vec<Row> = engines.iter().map(|e| self.row(Quantity::Speed, e, None, speed)).collect();
        for candidate in &engines {
            for baseline in engines.iter().filter(|baseline| self.compared(candidate, baseline)) {
                let beside = |own: &CellSummary| Some(ratio(own, self.pick(baseline, &own.cell.model)?));
                rows.push(self.row(Quantity::Speedup, candidate, Some(baseline), beside));
            }
        }
        rows.extend(engines.iter().map(|e| self.row(Quantity::Joules, e, None, joules)));
        // A row of joules without any, or of a pair that no model has, says nothing.
        rows.retain(|row| {
            let has_figure = |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| e.figure.is_some());
            match row.quantity {
                Quantity::Speed => true,
                Quantity::Speedup => row.entries.iter().any(Option::is_some),
                Quantity::Joules => row.entries.iter().any(has_figure),
            }
        });
        rows
    }

    fn row(
        &self,
        quantity: Quantity,
        engine: &str,
        against: Option<&str>,
        entry: impl FnMut(&CellSummary) -> Option<Entry>,
    ) -> Row {
        let picked = self.models.iter().map(|model| self.pick(engine, model));
        let mut entry = entry;
        let entries = picked.map(|cell| cell.and_then(&mut entry)).collect();
        let shown = |engine| self.analysis.shown(engine);
        Row { quantity, engine: shown(engine), against: against.map(shown), entries }
    }

    /// The pairs that `summary.csv` has ratios of: a ternary engine and its baseline, ours and an outside one.
    fn compared(&self, candidate: &str, baseline: &str) -> bool {
        let pair = |(own, theirs): &(String, String)| own == candidate && theirs == baseline;
        let outside = |engine: &str| self.cells.iter().any(|c| c.outside && c.cell.engine == engine);
        self.analysis.pairs.iter().any(pair) || (outside(baseline) && !outside(candidate))
    }

    /// The cell that stands for an engine and a model: with the best thread count, the fastest measured one.
    fn pick(&self, engine: &str, model: &str) -> Option<&'a CellSummary> {
        let of = |c: &&&CellSummary| c.cell.engine == engine && c.cell.model == model;
        let there = || self.cells.iter().filter(of).filter(|c| self.threads.fits(c.cell.threads)).copied();
        fastest(there()).or_else(|| there().max_by_key(|c| c.status == Status::Failed))
    }
}

fn speed(cell: &CellSummary) -> Option<Entry> {
    let figure = cell.figure("tokens_per_second");
    let (status, note) = match (cell.status, figure) {
        (status, _) if !status.measured() => (status, Some(reason(cell))),
        (_, None) => (Status::Na, Some("no window with tokens and a duration".to_owned())),
        (status, Some(_)) => (status, cell.reason.clone()),
    };
    Some(Entry { status, figure, kind: Kind::Measured, threads: vec![cell.cell.threads], note })
}

/// `own` over `base`, divided block by block; the interval is over blocks.
fn ratio(own: &CellSummary, base: &CellSummary) -> Entry {
    let figure = estimate(&block_ratios(&own.by_block, &base.by_block));
    let lacking = [own, base].into_iter().find(|c| !c.status.measured());
    let (status, note) = match (lacking, figure) {
        (Some(cell), _) => (Status::Na, Some(reason(cell))),
        (None, None) => (Status::Na, Some(format!("no block holds both {} and {}", own.cell.id(), base.cell.id()))),
        (None, Some(_)) => (if base.outside { Status::Outside } else { Status::Ok }, None),
    };
    let figure = figure.filter(|_| status != Status::Na);
    Entry { status, figure, kind: Kind::Derived, threads: vec![own.cell.threads, base.cell.threads], note }
}

fn joules(cell: &CellSummary) -> Option<Entry> {
    let metric = cell.metric("joules_per_token")?;
    let (status, note) = match &metric.figure {
        Ok(_) => (cell.status, metric.note.clone()),
        Err(reason) => (Status::Na, Some(reason.clone())),
    };
    let figure = metric.figure.as_ref().ok().copied();
    Some(Entry { status, figure, kind: metric.kind, threads: vec![cell.cell.threads], note })
}

fn reason(cell: &CellSummary) -> String {
    cell.reason.clone().unwrap_or_else(|| "no reason recorded".to_owned())
}
