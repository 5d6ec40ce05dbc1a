//! Ratios of engines, formed within a block.

use crate::cells::{CellSummary, Kind, Metric, Status};
use crate::outside;
use crate::stats::Bootstrap;
use std::collections::BTreeMap;
use suites::cell::{Cell, KvCache, Workload};

type Key<'a> = (&'a str, &'a str, u32, Workload, KvCache, Option<&'a str>);

fn key<'a>(engine: &'a str, cell: &'a Cell) -> Key<'a> {
    (engine, &cell.model, cell.threads, cell.workload, cell.kv, cell.isa.as_deref())
}

/// Adds `speedup` to every measured cell of a candidate: its tokens/s over the baseline's at the same model, threads,
/// workload, KV cache and instruction set. The two are divided block by block, as both ran under the same drift there;
/// the figure is the median of those ratios, its interval bootstrapped over blocks.
pub(crate) fn add_speedups(cells: &mut [CellSummary], pairs: &[(String, String)], bootstrap: &mut Bootstrap) {
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
                bootstrap.median(&ratios).ok_or(none)
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
pub(crate) fn add_ratios_to_outside(cells: &mut [CellSummary], bootstrap: &mut Bootstrap) {
    let mut found: Vec<(usize, Metric)> = Vec::new();
    for (position, own) in cells.iter().enumerate().filter(|(_, c)| c.status == Status::Ok && !c.outside) {
        for theirs in cells.iter().filter(|c| c.outside && key("", &c.cell) == key("", &own.cell)) {
            let engine = &theirs.cell.engine;
            let figure = match theirs.status {
                Status::Outside => bootstrap
                    .median(&block_ratios(&own.by_block, &theirs.by_block))
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
}
