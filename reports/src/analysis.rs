//! All cells of a run, in a fixed order, with the comparisons between them.

use crate::cells::{CellSummary, summarise};
use crate::compare::{self, Together};
use crate::load::RunData;
use std::collections::{BTreeMap, BTreeSet};
use suites::Catalogue;
use suites::cell::{Cell, KvCache, Phase, Workload};
use suites::model::ModelSpec;
use suites::record::Record;
use suites::run::PlannedCell;

/// A run, analysed.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// Every cell, by workload, model size, variant, threads and engine.
    pub cells: Vec<CellSummary>,
    /// Models by size.
    pub models: Vec<ModelSize>,
    /// Engines in the catalogue's order, others after them by name.
    pub engines: Vec<String>,
    /// Candidate and baseline engine names that cells were compared by.
    pub pairs: Vec<(String, String)>,
    /// Geometric means of speed-ups over the models that both engines were measured with.
    pub together: Vec<Together>,
    /// Each engine and variant with the place of its colour.
    colours: BTreeMap<(String, String), usize>,
    /// Outside engines.
    outside: BTreeSet<String>,
    /// Parameters and family of each model whose parameters are known.
    places: BTreeMap<String, (f64, u32)>,
}

/// How big a model is.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSize {
    /// Its name.
    pub name: String,
    /// Parameters, linear layers and embedding; `None` where nothing tells.
    pub params: Option<f64>,
    /// Where the shape comes from: models of one source are one family of sizes.
    pub family: Option<String>,
}

impl Analysis {
    /// Analyses a run.
    pub fn new(data: &RunData) -> Analysis {
        let catalogue = Catalogue::embedded().ok();
        let mut by_cell: BTreeMap<&Cell, (Option<&PlannedCell>, Vec<&Record>)> = BTreeMap::new();
        for planned in &data.plan.cells {
            by_cell.entry(&planned.cell).or_default().0 = Some(planned);
        }
        for record in &data.records {
            by_cell.entry(&record.cell).or_default().1.push(record);
        }
        let mut cells: Vec<CellSummary> = by_cell
            .iter()
            .map(|(cell, (planned, records))| summarise(cell, *planned, records, &data.run.machine.bandwidth))
            .collect();
        let engines = engine_order(&cells, catalogue.as_ref());
        let models = model_sizes(&cells, data, catalogue.as_ref());
        let rank: BTreeMap<&str, usize> = models.iter().enumerate().map(|(i, m)| (m.name.as_str(), i)).collect();
        cells.sort_by_cached_key(|c| {
            let engine = engines.iter().position(|e| *e == c.cell.engine);
            (
                workload_key(c.cell.workload),
                rank.get(c.cell.model.as_str()).copied(),
                variant_key(&c.cell),
                c.cell.threads,
                engine,
            )
        });
        let pairs = pairs(catalogue.as_ref());
        compare::add_speedups(&mut cells, &pairs);
        compare::add_ratios_to_outside(&mut cells);
        let together = compare::together(&cells, &pairs);
        let colours = colours(&cells, &engines);
        let outside = cells.iter().filter(|c| c.outside).map(|c| c.cell.engine.clone()).collect();
        let places = places(&models);
        Analysis { cells, models, engines, pairs, together, colours, outside, places }
    }

    /// Workloads that occur, prefill first.
    pub fn workloads(&self) -> Vec<Workload> {
        let mut all: Vec<Workload> = self.cells.iter().map(|c| c.cell.workload).collect();
        all.sort_by_key(|&w| workload_key(w));
        all.dedup();
        all
    }

    /// The workload of `phase` that most models were measured with, at the default depth if there is one.
    pub fn main_workload(&self, phase: Phase) -> Option<Workload> {
        let mut counts: BTreeMap<Workload, usize> = BTreeMap::new();
        for c in self.cells.iter().filter(|c| c.cell.workload.phase == phase && c.status.measured()) {
            *counts.entry(c.cell.workload).or_insert(0) += 1;
        }
        let best = |(w, count): &(Workload, usize)| (w.depth.is_none(), *count, w.tokens);
        counts.into_iter().max_by_key(best).map(|(w, _)| w)
    }

    /// Cells measured under a workload.
    pub fn measured(&self, workload: Workload) -> impl Iterator<Item = &CellSummary> {
        self.cells.iter().filter(move |c| c.cell.workload == workload && c.status.measured())
    }

    /// An engine's name as shown: outside ones are marked.
    pub fn shown(&self, engine: &str) -> String {
        if self.outside.contains(engine) { format!("{engine} (outside)") } else { engine.to_owned() }
    }

    /// The place of a cell's colour: that of its engine and variant among those of the run.
    pub fn colour(&self, cell: &Cell) -> usize {
        self.colours.get(&(cell.engine.clone(), variant(cell))).copied().unwrap_or(0)
    }

    /// Places that [`Analysis::colour`] gives.
    pub fn colours(&self) -> usize {
        self.colours.len()
    }

    /// A model's parameters, and a number that models of one family share.
    pub(crate) fn place(&self, model: &str) -> Option<(f64, u32)> {
        self.places.get(model).copied()
    }

    /// A model's size.
    pub fn model(&self, name: &str) -> Option<&ModelSize> {
        self.models.iter().find(|m| m.name == name)
    }
}

fn workload_key(workload: Workload) -> (Phase, u32, Option<u32>) {
    (workload.phase, workload.tokens, workload.depth)
}

fn variant_key(cell: &Cell) -> (KvCache, Option<String>) {
    (cell.kv, cell.isa.clone())
}

/// What sets a cell apart beside engine, model, threads and workload: ` kv-f32 isa-avx2`, empty by default.
pub(crate) fn variant(cell: &Cell) -> String {
    let mut text = String::new();
    if cell.kv != KvCache::F16 {
        text.push_str(" kv-");
        text.push_str(cell.kv.name());
    }
    if let Some(isa) = &cell.isa {
        text.push_str(" isa-");
        text.push_str(isa);
    }
    text
}

fn engine_order(cells: &[CellSummary], catalogue: Option<&Catalogue>) -> Vec<String> {
    let mut names: Vec<String> = cells.iter().map(|c| c.cell.engine.clone()).collect();
    let known = |name: &str| {
        let known = catalogue.and_then(|c| c.engines.iter().position(|e| e.name == name));
        known.unwrap_or(usize::MAX)
    };
    names.sort_by_cached_key(|name| (known(name), name.clone()));
    names.dedup();
    names
}

/// A family's number is the place of its first model; a model without one stands alone.
fn places(models: &[ModelSize]) -> BTreeMap<String, (f64, u32)> {
    let mut first: BTreeMap<&str, u32> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (at, model) in (0..).zip(models) {
        let family = model.family.as_deref().map_or(at, |family| *first.entry(family).or_insert(at));
        places.extend(model.params.map(|params| (model.name.clone(), (params, family))));
    }
    places
}

/// Engines in their order, and of each the variants in the order of cells.
fn colours(cells: &[CellSummary], engines: &[String]) -> BTreeMap<(String, String), usize> {
    let mut variants: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for cell in cells {
        let known = variants.entry(&cell.cell.engine).or_default();
        let own = variant(&cell.cell);
        if !known.contains(&own) {
            known.push(own);
        }
    }
    let looks = engines.iter().flat_map(|engine| {
        let own = variants.remove(engine.as_str()).unwrap_or_default();
        own.into_iter().map(move |variant| (engine.clone(), variant))
    });
    looks.zip(0..).collect()
}

/// Each ternary engine with the f16 engine that computes the same function.
fn pairs(catalogue: Option<&Catalogue>) -> Vec<(String, String)> {
    let Some(catalogue) = catalogue else { return Vec::new() };
    let ternary = catalogue.engines.iter().filter(|e| e.format.is_ternary());
    ternary.filter_map(|e| e.pair.clone().map(|baseline| (e.name.clone(), baseline))).collect()
}

/// A model's parameters, linear layers and embedding; `None` of an empty file.
pub(crate) fn params(spec: &ModelSpec) -> Option<f64> {
    let params = match spec {
        ModelSpec::Synthetic(s) => {
            let matrix = u64::from(s.vocab) * u64::from(s.hidden);
            (s.linear_params() + if s.tied { matrix } else { 2 * matrix }) as f64
        }
        ModelSpec::File(file) => file.f16_bytes as f64 / 2.0,
    };
    (params >= 1.0).then_some(params)
}

fn model_sizes(cells: &[CellSummary], data: &RunData, catalogue: Option<&Catalogue>) -> Vec<ModelSize> {
    let mut counted: BTreeMap<&str, f64> = BTreeMap::new();
    for record in &data.records {
        // Only 16-bit packing says how many weights there are without knowing the packing's padding.
        if let Some(m) = record.measurement().filter(|m| matches!(m.ran.linear.as_str(), "f16" | "bf16")) {
            counted.entry(&record.cell.model).or_insert(m.footprint.weights_bytes as f64 / 2.0);
        }
    }
    let mut names: Vec<&str> = cells.iter().map(|c| c.cell.model.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let size = |name: &str| {
        let spec = catalogue.and_then(|c| c.model(name).ok());
        let (params, family) = match spec {
            Some(spec @ ModelSpec::Synthetic(shape)) => (params(spec), Some(shape.source.clone())),
            Some(spec @ ModelSpec::File(_)) => (params(spec), None),
            None => (counted.get(name).copied(), None),
        };
        ModelSize { name: name.to_owned(), params: params.filter(|&p| p >= 1.0), family }
    };
    let mut sizes: Vec<ModelSize> = names.into_iter().map(size).collect();
    sizes.sort_by(|a, b| {
        let key = |m: &ModelSize| m.params.unwrap_or(f64::INFINITY);
        key(a).total_cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    sizes
}
