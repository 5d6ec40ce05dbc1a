//! Ratios of engines, formed within a block.

use crate::cells::{CellSummary, Kind, Metric, Status};
use crate::class::MachineClass;
use crate::outside;
use crate::stats::{Estimate, estimate, geometric_mean};
use std::collections::{BTreeMap, BTreeSet};
use suites::cell::{Cell, KvCache, Workload};
use suites::run::Machine;

/// What differs between two machines so that their figures do not compare; nothing between runs on one machine.
pub(crate) fn machines_differ(one: &Machine, other: &Machine) -> Vec<&'static str> {
    MachineClass::from(one).differs(&MachineClass::from(other))
}

type Key<'a> = (&'a str, &'a str, u32, Workload, KvCache, Option<&'a str>);

fn key<'a>(engine: &'a str, cell: &'a Cell) -> Key<'a> {
    (engine, &cell.model, cell.threads, cell.workload, cell.kv, cell.isa.as_deref())
}

/// Adds `speedup` to every measured cell of a candidate: its tokens/s over the baseline's at the same model, threads,
/// workload, KV cache and instruction set. The two are divided block by block, as both ran under the same drift there;
/// the figure is the median of those ratios, its interval over blocks.
pub(crate) fn add_speedups(cells: &mut [CellSummary], pairs: &[(String, String)]) {
    let mut found: Vec<(usize, Metric)> = Vec::new();
    let index: BTreeMap<Key<'_>, &CellSummary> = cells.iter().map(|c| (key(&c.cell.engine, &c.cell), c)).collect();
    for (position, candidate) in cells.iter().enumerate().filter(|(_, c)| c.status == Status::Ok) {
        let Some((_, baseline_name)) = pairs.iter().find(|(name, _)| *name == candidate.cell.engine) else { continue };
        // A run without any baseline cell of the kind asks for no comparison.
        let Some(baseline) = index.get(&key(baseline_name, &candidate.cell)) else { continue };
        let figure = match baseline.status {
            Status::Ok => {
                let ratios = block_ratios(&candidate.by_block, &baseline.by_block);
                let none = format!("no block holds both {} and {baseline_name}", candidate.cell.engine);
                estimate(&ratios).ok_or(none)
            }
            _ => Err(format!(
                "no {baseline_name} figure: {}",
                baseline.reason.as_deref().unwrap_or("no reason recorded")
            )),
        };
        found.push((
            position,
            Metric { name: "speedup".into(), unit: "x", kind: Kind::Derived, figure, note: None, source: None },
        ));
    }
    for (position, metric) in found {
        cells[position].metrics.push(metric);
    }
}

/// Adds to every measured cell of the project's own its ratio to each outside engine at the same model, threads, workload, KV
/// cache and instruction set, formed as `speedup` is.
pub(crate) fn add_ratios_to_outside(cells: &mut [CellSummary]) {
    let mut found: Vec<(usize, Metric)> = Vec::new();
    for (position, own) in cells.iter().enumerate().filter(|(_, c)| c.status == Status::Ok && !c.outside) {
        for theirs in cells.iter().filter(|c| c.outside && key("", &c.cell) == key("", &own.cell)) {
            let engine = &theirs.cell.engine;
            let figure = match theirs.status {
                Status::Outside => estimate(&block_ratios(&own.by_block, &theirs.by_block))
                    .ok_or_else(|| format!("no block holds both {} and {engine}", own.cell.engine)),
                _ => Err(format!("no {engine} figure: {}", theirs.reason.as_deref().unwrap_or("no reason recorded"))),
            };
            let (name, note) = (outside::ratio(engine).into(), Some("their answer is not checked".to_owned()));
            found.push((position, Metric { name, unit: "x", kind: Kind::Derived, figure, note, source: None }));
        }
    }
    for (position, metric) in found {
        cells[position].metrics.push(metric);
    }
}

/// One pair of engines over all models that both were measured with, at one workload, thread count and variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Together {
    /// A cell of the candidate: all but its model holds for every one.
    pub cell: Cell,
    /// The engine that it is compared with.
    pub baseline: String,
    /// Models that both were measured with.
    pub models: usize,
    /// Models that one of the two alone was measured with: not in the mean.
    pub left_out: usize,
    /// Within a block the geometric mean over the models; of the blocks that hold all of them the median. `None` if none does.
    pub mean: Option<Estimate>,
}

type Blocks<'a> = &'a [(u32, f64)];

/// The geometric mean of the ratios in each block that every pair of cells ran in. Cells that a block lacks would make its
/// mean one of other models: such blocks are left out.
fn block_means(pairs: &[(Blocks<'_>, Blocks<'_>)]) -> Vec<f64> {
    let blocks = |of: Blocks<'_>| of.iter().map(|(block, _)| *block).collect::<BTreeSet<u32>>();
    let both = |pair: &(Blocks<'_>, Blocks<'_>)| &blocks(pair.0) & &blocks(pair.1);
    let Some(shared) = pairs.iter().map(both).reduce(|a, b| &a & &b) else { return Vec::new() };
    let only = |of: Blocks<'_>| of.iter().copied().filter(|(block, _)| shared.contains(block)).collect::<Vec<_>>();
    let ratios: Vec<Vec<f64>> = pairs.iter().map(|(own, base)| block_ratios(&only(own), &only(base))).collect();
    let of_block = |at: usize| ratios.iter().map(|r| r.get(at).copied()).collect::<Option<Vec<f64>>>();
    (0..shared.len()).filter_map(|at| geometric_mean(&of_block(at)?)).collect()
}

/// Speed-ups of each pair of engines, each workload, thread count and variant, over its shared models; where there are two
/// or more.
pub(crate) fn together(cells: &[CellSummary], pairs: &[(String, String)]) -> Vec<Together> {
    let place = |c: &Cell| (c.workload, c.threads, c.kv, c.isa.clone());
    let mut by_place: BTreeMap<_, BTreeMap<(&str, &str), &CellSummary>> = BTreeMap::new();
    for cell in cells.iter().filter(|c| c.status == Status::Ok) {
        by_place.entry(place(&cell.cell)).or_default().insert((&cell.cell.engine, &cell.cell.model), cell);
    }
    let mut found = Vec::new();
    for measured in by_place.values() {
        for (candidate, baseline) in pairs {
            let of = |engine: &str| -> BTreeMap<&str, &CellSummary> {
                measured.iter().filter(|((e, _), _)| *e == engine).map(|((_, model), cell)| (*model, *cell)).collect()
            };
            let (own, base) = (of(candidate), of(baseline));
            let shared: Vec<(Blocks<'_>, Blocks<'_>)> = own
                .iter()
                .filter_map(|(model, cell)| Some((cell.by_block.as_slice(), base.get(model)?.by_block.as_slice())))
                .collect();
            if let (Some(first), 2..) = (own.values().next(), shared.len()) {
                found.push(Together {
                    cell: first.cell.clone(),
                    baseline: baseline.clone(),
                    models: shared.len(),
                    left_out: own.len() + base.len() - 2 * shared.len(),
                    mean: estimate(&block_means(&shared)),
                });
            }
        }
    }
    found
}

/// Candidate over baseline for each block that holds both.
pub(crate) fn block_ratios(candidate: &[(u32, f64)], baseline: &[(u32, f64)]) -> Vec<f64> {
    let baseline: BTreeMap<u32, f64> = baseline.iter().copied().collect();
    let ratio = |(block, speed): &(u32, f64)| baseline.get(block).filter(|b| **b > 0.0).map(|b| speed / b);
    candidate.iter().filter_map(ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_stay_within_blocks() {
        let candidate = [(0, 30.0), (1, 10.0), (3, 8.0)];
        let baseline = [(0, 10.0), (1, 5.0), (2, 1.0)];
        assert_eq!(block_ratios(&candidate, &baseline), [3.0, 2.0]);
    }

    /// Block 0 holds 2x of one model and 8x of the other, block 1 3x and 12x: 4 and 6. Block 2 has one model alone.
    #[test]
    fn a_mean_is_of_models_that_a_block_holds_all_of() {
        let one = ([(0, 2.0), (1, 3.0), (2, 9.0)], [(0, 1.0), (1, 1.0), (2, 1.0)]);
        let other = ([(0, 16.0), (1, 12.0)], [(0, 2.0), (1, 1.0)]);
        let found = block_means(&[(&one.0, &one.1), (&other.0, &other.1)]);
        assert!((found[0] - 4.0).abs() < 1e-12 && (found[1] - 6.0).abs() < 1e-12 && found.len() == 2, "{found:?}");
        assert!(block_means(&[(&one.0[2..], &one.1), (&other.0, &other.1)]).is_empty(), "no block in common");
        assert!(block_means(&[]).is_empty());
    }
}
