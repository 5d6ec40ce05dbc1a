//! What a deep key/value cache costs a token, beside what reading the cache takes.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Status};
use crate::load::RunData;
use crate::stats::{Estimate, estimate};
use crate::text::{escape, markdown_table, with_interval};
use std::collections::BTreeMap;
use suites::cell::{Cell, KvCache, Phase};

/// The least share of a token's bytes that a cache has to add for its cost to be told from the noise.
const LEAST_SHARE: f64 = 0.02;

/// One process: what a token took and read, and the bandwidth measured just before.
struct Process {
    seconds: f64,
    bytes: f64,
    bandwidth: f64,
}

/// Of one block: the process of a deep cell and that of the shallow one.
struct Pair {
    deep: Process,
    shallow: Process,
}

impl Pair {
    fn more_seconds(&self) -> f64 {
        self.deep.seconds - self.shallow.seconds
    }

    /// What reading the bytes that came with the depth takes at the bandwidth measured before both.
    fn limit_seconds(&self) -> f64 {
        (self.deep.bytes - self.shallow.bytes) / ((self.deep.bandwidth + self.shallow.bandwidth) / 2.0)
    }

    /// Bytes a second of the deep one over those of the shallow one.
    fn rates(&self) -> f64 {
        self.deep.bytes / self.deep.seconds / (self.shallow.bytes / self.shallow.seconds)
    }
}

/// Columns of [`rows`].
pub(crate) const COLUMNS: [&str; 9] = [
    "model",
    "engine",
    "threads",
    "cache",
    "beside",
    "ms a token more",
    "ms to read what is more",
    "cost over bytes",
    "bytes/s, deep over shallow",
];

/// Those of [`COLUMNS`] that hold figures.
pub(crate) const FIGURES: [usize; 5] = [2, 5, 6, 7, 8];

/// The section, or nothing where [`rows`] has none.
pub(crate) fn section(data: &RunData, analysis: &Analysis) -> String {
    let text = |(index, text): (usize, &String)| if FIGURES.contains(&index) { text.clone() } else { escape(text) };
    let rows: Vec<Vec<String>> =
        rows(data, analysis).iter().map(|row| row.iter().enumerate().map(text).collect()).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("## Depth\n\n{NOTE}\n\n{}\n", markdown_table(&COLUMNS.map(str::to_owned), &rows, 2))
}

/// A row for each decode cell that is deeper than another of the same engine, model, threads and path.
pub(crate) fn rows(data: &RunData, analysis: &Analysis) -> Vec<[String; 9]> {
    let cells: Vec<&CellSummary> =
        analysis.cells.iter().filter(|c| c.status == Status::Ok && c.cell.workload.phase == Phase::Decode).collect();
    let of = |deep: &&CellSummary| {
        let alike = cells.iter().filter(|c| place(&c.cell) == place(&deep.cell));
        let shallow = alike.min_by_key(|c| (c.cell.workload.depth(), c.cell.kv != KvCache::F16))?;
        let pairs = pairs(data, &deep.cell, &shallow.cell);
        (!pairs.is_empty()).then(|| row(&deep.cell, &shallow.cell, &pairs))
    };
    cells.iter().filter_map(of).collect()
}

/// What the figures are.
pub(crate) const NOTE: &str = "What a token takes longer with a deep key/value cache than with a shallow one, in the same block, beside what \
    reading the bytes that the depth adds takes at the read bandwidth measured just before both. 1 is the limit of memory: more is \
    arithmetic, waiting or drift of the machine between the two processes. The last column needs no measured bandwidth: over 1, \
    the deep token reads its weights and cache faster than the shallow one its own.";

/// All that two cells must share.
fn place(cell: &Cell) -> (&str, &str, u32, Option<&str>) {
    (&cell.model, &cell.engine, cell.threads, cell.isa.as_deref())
}

fn row(deep: &Cell, shallow: &Cell, pairs: &[Pair]) -> [String; 9] {
    let over = |of: &dyn Fn(&Pair) -> f64| estimate(&pairs.iter().map(of).collect::<Vec<_>>());
    let say = |found: Option<Estimate>, sign: &str| {
        found.map_or(String::new(), |figure| format!("{}{sign}", with_interval(figure)))
    };
    let name = |cell: &Cell| format!("{}{}", cell.workload, variant(cell));
    [
        deep.model.clone(),
        deep.engine.clone(),
        deep.threads.to_string(),
        name(deep),
        name(shallow),
        say(over(&|pair| pair.more_seconds() * 1e3), ""),
        say(over(&|pair| pair.limit_seconds() * 1e3), ""),
        say(over(&|pair| pair.more_seconds() / pair.limit_seconds()), "×"),
        say(over(&|pair| pair.rates()), "×"),
    ]
}

/// The blocks that have both cells, if the deep one reads enough more.
fn pairs(data: &RunData, deep: &Cell, shallow: &Cell) -> Vec<Pair> {
    let mut before = processes(data, shallow);
    let both = processes(data, deep).into_iter().filter_map(|(block, deep)| {
        let shallow = before.remove(&block)?;
        (deep.bytes - shallow.bytes > LEAST_SHARE * deep.bytes).then_some(Pair { deep, shallow })
    });
    both.collect()
}

fn processes(data: &RunData, cell: &Cell) -> BTreeMap<u32, Process> {
    let of_cell = data.records.iter().filter(|record| record.cell == *cell);
    let all = of_cell.filter_map(|record| {
        let measured = record.measurement()?;
        let limit = measured.limit.as_ref()?;
        let process = Process {
            seconds: 1.0 / measured.tokens_per_second().filter(|speed| *speed > 0.0)?,
            bytes: limit.per_token as f64,
            bandwidth: limit.of.per_second.filter(|rate| *rate > 0)? as f64,
        };
        Some((record.block, process))
    });
    all.collect()
}
