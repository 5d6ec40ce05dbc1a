//! `report.md`: what was run, on what, and what came of it.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind, Status};
use crate::depth;
use crate::energy;
use crate::head;
use crate::load::RunData;
use crate::outside;
use crate::plot::Plot;
use crate::prediction;
use crate::sections;
use crate::sparsity;
use crate::stats::Estimate;
use crate::tasks;
use crate::text::{Footnotes, bytes, escape, markdown_table, percent, short, with_interval};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use suites::cell::{Phase, Workload};

/// The text of `report.md`. `plots` are linked relative to the run's folder.
pub(crate) fn page(data: &RunData, analysis: &Analysis, plots: &[Plot]) -> String {
    let mut out = sections::header(data, analysis);
    for phase in [Phase::Decode, Phase::Prefill] {
        let workloads: Vec<Workload> = analysis.workloads().into_iter().filter(|w| w.phase == phase).collect();
        for workload in workloads {
            out.push_str(&results(analysis, workload));
        }
    }
    out.push_str(&sections::together(analysis));
    out.push_str(&prediction::section(analysis));
    for plot in plots {
        let _ = writeln!(out, "![{}](plots/{}.svg)\n\n{}\n", escape(&plot.title), plot.stem, escape(&plot.caption));
    }
    out.push_str(&outside::section(data, analysis));
    out.push_str(&sparsity::section(analysis));
    out.push_str(&head::section(analysis));
    out.push_str(&depth::section(data, analysis));
    out.push_str(&tasks::section(data, analysis));
    out.push_str(&memory(analysis));
    out.push_str(&energy::section(data, analysis));
    out.push_str(&sections::checks(data));
    out.push_str(&sections::missing(analysis));
    out.push_str(sections::HOW_TO_READ);
    out
}

/// Models × threads × variant down, engines across.
fn results(analysis: &Analysis, workload: Workload) -> String {
    let cells: Vec<&CellSummary> = analysis.cells.iter().filter(|c| c.cell.workload == workload).collect();
    let engines: Vec<&String> =
        analysis.engines.iter().filter(|e| cells.iter().any(|c| c.cell.engine == **e)).collect();
    let ratio = cells.iter().any(|c| c.metric("speedup").is_some());
    let decode = workload.phase == Phase::Decode;
    let mut header = vec!["model".to_owned(), "threads".to_owned()];
    let shown: Vec<String> = engines.iter().map(|e| escape(&analysis.shown(e))).collect();
    header.extend(shown.iter().map(|e| format!("{e} tokens/s")));
    if ratio {
        header.push("speed-up".to_owned());
    }
    let lasts = last_columns(decode, &cells);
    for (_, title) in &lasts {
        header.extend(shown.iter().map(|e| format!("{e} {title}")));
    }
    let mut notes = Footnotes::default();
    let mut rows = Vec::new();
    let mut done = BTreeSet::new();
    let place_of = |c: &CellSummary| (c.cell.model.clone(), c.cell.threads, variant(&c.cell));
    let index: BTreeMap<_, &CellSummary> = cells.iter().map(|c| ((place_of(c), c.cell.engine.as_str()), *c)).collect();
    for first in &cells {
        let place = place_of(first);
        if !done.insert(place.clone()) {
            continue;
        }
        let of = |engine: &str| index.get(&(place.clone(), engine)).copied();
        let mut row = vec![escape(&place.0), escape(&format!("{}{}", place.1, place.2))];
        row.extend(engines.iter().map(|e| of(e).map_or(String::new(), |c| speed(c, &mut notes))));
        if ratio {
            let candidate = engines.iter().filter_map(|e| of(e)).find(|c| c.metric("speedup").is_some());
            let times = |f: Estimate| format!("{}×", with_interval(f));
            row.push(candidate.map_or(String::new(), |c| figure(c, "speedup", times, &mut notes)));
        }
        for (last, _) in &lasts {
            let print = |f: Estimate| if last.ends_with("share") { percent(f.value) } else { with_interval(f) };
            row.extend(engines.iter().map(|e| of(e).map_or(String::new(), |c| figure(c, last, print, &mut notes))));
        }
        rows.push(row);
    }
    let title = if decode { "Decode" } else { "Prefill" };
    let depth = workload.depth();
    let what = if decode {
        format!("{} forced tokens after {depth} in the cache", workload.tokens)
    } else {
        format!("{} tokens in one batch after {depth} in the cache", workload.tokens)
    };
    let mut out = format!("## {title}, `{workload}`\n\n{what}.\n\n{}\n", markdown_table(&header, &rows, 1));
    for (number, text) in notes.texts() {
        let _ = writeln!(out, "{number}. {}", escape(text));
    }
    out.push('\n');
    out
}

/// The metrics behind the speeds, and their titles; shares of peaks only where the records have them.
fn last_columns(decode: bool, cells: &[&CellSummary]) -> Vec<(&'static str, &'static str)> {
    if decode {
        return vec![("bandwidth_share", "share of bandwidth")];
    }
    let mut columns = vec![("ttft", "TTFT ms")];
    if cells.iter().any(|c| c.figure("compute_share").is_some()) {
        columns.push(("compute_share", "share of peak"));
    }
    columns
}

/// A metric's figure, `N/A` and a footnote where it is unavailable, nothing where the cell has no such metric.
fn figure(cell: &CellSummary, name: &str, print: impl Fn(Estimate) -> String, notes: &mut Footnotes) -> String {
    match cell.metric(name).map(|m| &m.figure) {
        Some(Ok(found)) if modelled(cell, name) => format!("{} (modelled)", print(*found)),
        Some(Ok(found)) => print(*found),
        Some(Err(reason)) => format!("N/A ({})", notes.number(reason)),
        None => String::new(),
    }
}

fn modelled(cell: &CellSummary, name: &str) -> bool {
    cell.metric(name).is_some_and(|metric| metric.kind == Kind::Modelled)
}

fn speed(cell: &CellSummary, notes: &mut Footnotes) -> String {
    let reason = cell.reason.as_deref().unwrap_or("no reason recorded");
    match cell.status {
        Status::Failed => format!("FAILED ({})", notes.number(reason)),
        Status::Na => format!("N/A ({})", notes.number(reason)),
        Status::Ok | Status::Outside => match cell.figure("tokens_per_second") {
            Some(figure) if cell.reason.is_none() => with_interval(figure),
            Some(figure) => format!("{} ({})", with_interval(figure), notes.number(reason)),
            None => "N/A".to_owned(),
        },
    }
}

fn memory(analysis: &Analysis) -> String {
    let header =
        ["model", "cell", "peak RSS", "packed weights", "peak / weights", "peak / predicted", "read per token"];
    let mut rows = Vec::new();
    for cell in analysis.cells.iter().filter(|c| c.status.measured()) {
        let (peak, weights) = (cell.figure("peak_rss_bytes"), cell.figure("weights_bytes"));
        let share = match (peak, weights) {
            (Some(peak), Some(weights)) if weights.value > 0.0 => format!("{}×", short(peak.value / weights.value)),
            _ => "N/A".to_owned(),
        };
        let size = |name: &str| cell.figure(name).map_or("N/A".to_owned(), |f| bytes(f.value));
        rows.push(vec![
            escape(&cell.cell.model),
            escape(&cell.cell.id()),
            size("peak_rss_bytes"),
            size("weights_bytes"),
            share,
            cell.figure("peak_over_predicted").map_or("N/A".to_owned(), |f| format!("{}×", short(f.value))),
            size("read_per_token_bytes") + if modelled(cell, "read_per_token_bytes") { " (modelled)" } else { "" },
        ]);
    }
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = header.into_iter().map(str::to_owned).collect();
    format!(
        "## Memory\n\nPeak resident memory is the worker's own `VmHWM`; an outside program's is looked at while it runs.\n\n{}\n",
        markdown_table(&header, &rows, 2)
    )
}
