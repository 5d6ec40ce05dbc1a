//! What will run, in which order, and what will not and why.

mod outside;
pub mod predict;

use crate::adapters::Outside;
use crate::error::Error;
use anyhow::{Result, bail};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use suites::cell::KvCache;
use suites::definition::Asked;
use suites::model::{Activation, EngineSpec, HeadMode, HeadType, ModelSpec};
use suites::record::SCHEMA;
use suites::run::{Plan, PlannedCell, Step};
use suites::{Catalogue, Cell, Suite};

/// Share of available memory a worker may take, in percent.
pub(crate) const MEMORY_PERCENT: u64 = 90;

/// What the command line leaves of a suite.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Engines to keep.
    pub engines: Option<Vec<String>>,
    /// Models to keep.
    pub models: Option<Vec<String>>,
    /// Thread counts to keep.
    pub threads: Option<Vec<u32>>,
    /// Most blocks of any cell.
    pub blocks: Option<u32>,
    /// Keep the cells of every `.1`-th model, thread count and workload, from the `.0`-th (from 0) on; all their engines.
    pub shard: Option<(u32, u32)>,
}

/// The machine a plan is made for.
#[derive(Clone, Debug)]
pub struct Host {
    /// CPUs the program may use.
    pub cpus: u32,
    /// Memory that may be taken; `None` where the system does not tell, and then nothing is refused for its size.
    pub available_bytes: Option<u64>,
    /// Instruction-set paths that run here.
    pub isas: Vec<String>,
    /// File models found, by model name: the path, or why the file can't be used.
    pub files: BTreeMap<String, Result<PathBuf, String>>,
    /// Names of the file models found whose linear layers are ternary.
    pub ternary: BTreeSet<String>,
    /// Outside engines found.
    pub outside: Outside,
    /// The shortest window whose joules are told; `None` where energy can't be measured, and no machine is left at rest for it.
    pub energy_window: Option<Duration>,
}

impl Host {
    /// Where the file of `model` is, or why there is none to use. `Ok(None)` for a model that needs no file.
    pub(crate) fn path(&self, model: &ModelSpec) -> Result<Option<PathBuf>, String> {
        let ModelSpec::File(file) = model else { return Ok(None) };
        match self.files.get(&file.name) {
            Some(found) => found.clone().map(Some),
            None => Err(format!("not on this machine: run {}", file.fetch)),
        }
    }

    /// Size of the model's file: it is mapped while its weights are packed, and mapped pages count as resident.
    pub fn mapped_bytes(&self, model: &ModelSpec) -> u64 {
        let path = self.path(model).ok().flatten();
        path.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |file| file.len())
    }

    /// What a worker measures at least.
    fn window(&self, suite: &Suite) -> Duration {
        suite.min_window.max(self.energy_window.unwrap_or_default())
    }

    /// How long the machine is left at rest around a process, in nanoseconds.
    fn rest_ns(&self, suite: &Suite) -> u64 {
        let rest = self.energy_window.map_or(Duration::ZERO, |_| suite.idle * 2);
        u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX / 4)
    }

    /// Why no engine can run `cell`, if none can: too many threads, an instruction set that is not there.
    fn cannot(&self, cell: &Cell) -> Option<String> {
        if cell.threads > self.cpus {
            return Some(format!("{} threads, {} CPUs", cell.threads, self.cpus));
        }
        let isa = cell.isa.as_ref().filter(|isa| !self.isas.contains(isa))?;
        Some(format!("no {isa} on this CPU (it has {})", self.isas.join(", ")))
    }

    /// Why a process that needs `bytes` can't be started, if it can't.
    fn too_big(&self, bytes: u64) -> Option<String> {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        let available = self.available_bytes.filter(|_| !self.fits(bytes))?;
        Some(format!("needs {:.1} GB, {:.1} GB available", gigabytes(bytes), gigabytes(available)))
    }

    /// Whether a worker that needs `bytes` may be started.
    pub fn fits(&self, bytes: u64) -> bool {
        self.available_bytes.is_none_or(|available| bytes <= available / 100 * MEMORY_PERCENT)
    }
}

/// Makes the plan of `suite`.
///
/// # Errors
/// Names in the filter that nothing is called; a filter that leaves no cell.
pub fn make(suite: &Suite, catalogue: &Catalogue, filter: &Filter, host: &Host) -> Result<Plan> {
    check_names(suite, catalogue, filter)?;
    let present = |model: &ModelSpec| host.path(model).is_ok();
    let keep = |names: &Option<Vec<String>>, name: &String| names.as_ref().is_none_or(|n| n.contains(name));
    let mut cells = Vec::new();
    let mut places = BTreeMap::new();
    for Asked { cell, blocks, tasks } in suite.cells(host.cpus, present) {
        // Engines side by side stay together: their ratio is formed within a run.
        let next = places.len() as u32;
        let place = *places.entry(Cell { engine: String::new(), ..cell.clone() }).or_insert(next);
        let kept = keep(&filter.engines, &cell.engine)
            && keep(&filter.models, &cell.model)
            && filter.threads.as_ref().is_none_or(|t| t.contains(&cell.threads))
            && filter.shard.is_none_or(|(i, n)| place % n == i);
        if kept {
            let blocks = blocks.min(filter.blocks.unwrap_or(u32::MAX));
            let planned = planned(suite, catalogue, host, cell, blocks)?;
            // They are answered in one of the blocks.
            let answering = predict::tasks_ns(suite, catalogue, &planned.cell, &tasks) / u64::from(blocks.max(1));
            let predicted_ns = planned.predicted_ns.saturating_add(answering);
            cells.push(PlannedCell { tasks, predicted_ns, ..planned });
        }
    }
    if cells.is_empty() {
        bail!(Error::Usage(format!("no cell of suite `{}` is left by the filters", suite.name)));
    }
    let steps = order(&cells, suite.seed);
    Ok(Plan { schema: SCHEMA, seed: suite.seed, cells, steps })
}

fn check_names(suite: &Suite, catalogue: &Catalogue, filter: &Filter) -> Result<()> {
    for name in filter.engines.iter().flatten() {
        if !suite.is_outside(name) {
            catalogue.engine(name)?;
        }
    }
    for name in filter.models.iter().flatten() {
        if suite.model(name).is_none() {
            bail!(suites::Error::unknown("model", name, suite.models.iter().map(ModelSpec::name)));
        }
    }
    Ok(())
}

/// Model and engine of a cell of the project's own engines. A checked suite names no others; a plan read from a file may.
///
/// # Errors
/// An unknown name.
pub fn resolve<'a>(suite: &'a Suite, catalogue: &'a Catalogue, cell: &Cell) -> Result<(&'a ModelSpec, &'a EngineSpec)> {
    Ok((model(suite, cell)?, catalogue.engine(&cell.engine)?))
}

/// Model of a cell of any engine.
///
/// # Errors
/// An unknown name.
pub fn model<'a>(suite: &'a Suite, cell: &Cell) -> Result<&'a ModelSpec> {
    let unknown = || suites::Error::unknown("model", &cell.model, suite.models.iter().map(ModelSpec::name));
    Ok(suite.model(&cell.model).ok_or_else(unknown)?)
}

fn planned(suite: &Suite, catalogue: &Catalogue, host: &Host, cell: Cell, blocks: u32) -> Result<PlannedCell> {
    if suite.is_outside(&cell.engine) {
        let model = model(suite, &cell)?;
        return Ok(outside::planned(suite, host, model, cell, blocks));
    }
    let (model, engine) = resolve(suite, catalogue, &cell)?;
    let predicted_bytes = model.predict_bytes(&cell, engine) + host.mapped_bytes(model);
    Ok(PlannedCell {
        outside: false,
        blocks,
        predicted_bytes,
        predicted_ns: predict::cell_ns(model, engine.format, &cell, host.window(suite)) + host.rest_ns(suite),
        na: not_applicable(host, &cell, model, engine, predicted_bytes),
        tasks: Vec::new(),
        cell,
    })
}

/// Why `cell` can't run on `host`, if it can't.
fn not_applicable(host: &Host, cell: &Cell, model: &ModelSpec, engine: &EngineSpec, bytes: u64) -> Option<String> {
    if let Err(reason) = host.path(model) {
        return Some(reason);
    }
    if let ModelSpec::Synthetic(shape) = model {
        if engine.format.is_sparse() && shape.activation != Activation::Relu2 {
            return Some("no zero gates without ReLU²".to_owned());
        }
        if engine.head == HeadMode::Bounded && shape.head != HeadType::F16 {
            return Some(format!("a bounded copy is of an f16 head, not {}", shape.head.name()));
        }
    }
    if let ModelSpec::File(file) = model
        && engine.format.is_ternary()
        && !host.ternary.contains(&file.name)
    {
        return Some("no ternary weights in this file".to_owned());
    }
    if let Some(reason) = host.cannot(cell) {
        return Some(reason);
    }
    // A worker always opens room for its check of a batch.
    let context = cell.workload.context().max(crate::answer::BATCH_TOKENS as u32);
    if let Some(most) = model.context().filter(|&most| context > most) {
        return Some(format!("a context of {context} tokens, the model allows {most}"));
    }
    host.too_big(bytes)
}

/// Seeded random blocks: block `b` holds every cell that has more than `b` blocks once, shuffled anew. A budget that runs
/// out, or Ctrl-C, then costs replicates before it costs cells.
fn order(cells: &[PlannedCell], seed: u64) -> Vec<Step> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut steps = Vec::new();
    for block in 0..cells.iter().map(|c| c.blocks).max().unwrap_or(0) {
        let start = steps.len();
        let runs = |c: &PlannedCell| c.na.is_none() && c.blocks > block;
        steps.extend((0..cells.len()).filter(|&i| runs(&cells[i])).map(|i| Step { block, cell: i as u32 }));
        steps[start..].shuffle(&mut rng);
    }
    steps
}

/// The cell whose answer is the reference for `engine` on `model`: the scalar path on every CPU.
pub fn reference_cell(model: &ModelSpec, engine: &EngineSpec, kv: KvCache, cpus: u32) -> Cell {
    Cell {
        engine: engine.name.clone(),
        model: model.name().to_owned(),
        threads: cpus.max(1),
        workload: suites::Workload { phase: suites::Phase::Decode, tokens: 1, depth: None },
        kv,
        isa: Some("scalar".to_owned()),
    }
}

#[cfg(test)]
mod tests;
