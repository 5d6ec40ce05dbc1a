//! Paper-style tables as JSON.

use crate::load::RunData;
use crate::paper::{self, Block, Entry, Row, Selection, Threads};
use serde_json::{Value, json};

/// Version of the document.
const SCHEMA: u32 = 1;

/// One document: runs, their blocks, rows and entries; an entry is `null` where nothing was planned.
pub(super) fn document(runs: &[RunData], selection: &Selection) -> String {
    let runs: Vec<Value> = runs.iter().map(|data| run(data, selection)).collect();
    format!("{:#}\n", json!({ "schema": SCHEMA, "runs": runs }))
}

fn run(data: &RunData, selection: &Selection) -> Value {
    let blocks: Vec<Value> = paper::blocks(data, selection).iter().map(block).collect();
    let run = &data.run;
    json!({
        "run": run.name, "suite": run.suite, "cpu": run.machine.cpu, "started": run.started,
        "revision": run.build.git_revision, "blocks": blocks,
    })
}

fn block(block: &Block) -> Value {
    let threads = match block.threads {
        Threads::Best => json!("best"),
        Threads::Count(threads) => json!(threads),
    };
    json!({
        "workload": block.workload.to_string(), "phase": block.workload.phase.name(), "tokens": block.workload.tokens,
        "depth": block.workload.depth(), "variant": block.variant.trim(), "threads": threads, "models": block.models,
        "rows": block.rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &Row) -> Value {
    let (metric, unit) = row.quantity.names();
    json!({
        "metric": metric, "unit": unit, "engine": row.engine, "against": row.against,
        "entries": row.entries.iter().map(|e| e.as_ref().map(entry)).collect::<Vec<_>>(),
    })
}

fn entry(entry: &Entry) -> Value {
    let figure = entry.figure;
    json!({
        "status": entry.status.name(), "kind": entry.kind.name(), "value": figure.map(|f| f.value),
        "lo": figure.and_then(|f| f.interval).map(|(lo, _)| lo), "hi": figure.and_then(|f| f.interval).map(|(_, hi)| hi),
        "n": figure.map_or(0, |f| f.n), "threads": entry.threads, "note": entry.note,
    })
}
