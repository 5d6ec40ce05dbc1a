//! Cells of outside engines: what they will take, and why they can't run where they can't.

use super::{Host, predict};
use crate::adapters::{Engine, llama_bench};
use suites::cell::Cell;
use suites::model::ModelSpec;
use suites::run::PlannedCell;
use suites::{Phase, Suite};

/// Room for code, the logits of a batch and whatever else such a program holds beside weights and cache.
const OVERHEAD: u64 = 512 << 20;

/// Plans `cell` of an outside engine on `model`.
pub(super) fn planned(suite: &Suite, host: &Host, model: &ModelSpec, cell: Cell, blocks: u32) -> PlannedCell {
    let found = host.outside.find(&cell.engine).and_then(|engine| {
        let file = engine.model(&cell.model).ok_or_else(|| {
            let known: Vec<&str> = engine.spec.models.keys().map(String::as_str).collect();
            format!("the --outside file has no GGUF file of `{}` for it, only of {}", cell.model, known.join(", "))
        })?;
        Ok((engine, std::fs::metadata(file).map_err(|e| format!("{}: {e}", file.display()))?.len()))
    });
    let (file_bytes, na) = match found {
        Ok((engine, bytes)) => (bytes, not_applicable(host, &cell, model, engine)),
        Err(reason) => (0, Some(reason)),
    };
    // Nothing is known of what can't run.
    let cache = if file_bytes > 0 { model.kv_bytes(cell.workload.context(), cell.kv) + OVERHEAD } else { 0 };
    let predicted_bytes = file_bytes + cache;
    let predicted_ns = match file_bytes {
        0 => 0,
        bytes => predict::outside_ns(model, bytes, &cell, suite.min_window) + host.rest_ns(suite),
    };
    let na = na.or_else(|| host.too_big(predicted_bytes));
    PlannedCell { cell, outside: true, blocks, predicted_bytes, predicted_ns, na, tasks: Vec::new() }
}

fn not_applicable(host: &Host, cell: &Cell, model: &ModelSpec, engine: &Engine) -> Option<String> {
    let own = host.cannot(cell);
    let isa = || {
        let wanted = cell.isa.as_ref().filter(|wanted| engine.spec.isa.as_ref() != Some(*wanted))?;
        let built = engine.spec.isa.as_ref().map_or("nothing of it".to_owned(), |isa| format!("isa = \"{isa}\""));
        Some(format!("for a build with isa = \"{wanted}\"; the --outside file says {built}"))
    };
    let context = || {
        let context = match cell.workload.phase {
            Phase::Decode => cell.workload.depth.unwrap_or(0) + cell.workload.tokens,
            Phase::Prefill => cell.workload.context(),
        };
        let most = model.context().filter(|&most| context > most)?;
        Some(format!("a context of {context} tokens, the model allows {most}"))
    };
    own.or_else(isa).or_else(context).or_else(|| llama_bench::not_applicable(cell, engine.depth))
}
