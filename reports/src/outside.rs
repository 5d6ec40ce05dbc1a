//! Outside engines: what is known of their cells, and their section of the page.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Collector, Kind, Status};
use crate::load::RunData;
use crate::text::{bytes, code, escape, markdown_table, with_interval};
use std::collections::BTreeMap;
use std::fmt::Write;
use suites::cell::Phase;
use suites::record::{Energy, Outside, Record};

/// Said above the section's table.
const NOTE: &str = "Outside engines ran in the same blocks, in the same random order. Their speeds are by their own clocks and **their \
    answers are not checked**; a ratio is ours over theirs, divided block by block.";
/// Why a figure is missing that only the program itself could give.
const UNTOLD: &str = "the outside program does not tell";
/// Why there are no joules of a token.
const NO_JOULES: &str =
    "the outside program does not tell when its windows begin: its joules hold loading and warm-up too";

/// The metric that holds an own cell's ratio to an outside engine.
pub(crate) fn ratio(engine: &str) -> String {
    format!("ratio_to_{engine}")
}

/// Fills in the figures of a cell that an outside program measured.
pub(crate) fn summarise(summary: &mut CellSummary, records: &[&Record]) {
    let mut processes: Vec<(u32, &Outside)> =
        records.iter().filter_map(|r| r.outside().map(|outside| (r.block, outside))).collect();
    processes.sort_by_key(|(block, _)| *block);
    let speeds = processes.iter().filter_map(|(block, o)| o.tokens_per_second().map(|speed| (*block, speed)));
    summary.by_block = speeds.collect();
    let processes: Vec<&Outside> = processes.into_iter().map(|(_, outside)| outside).collect();
    let mut c = Collector { processes: &processes, out: Vec::new() };
    c.add("tokens_per_second", "tokens/s", Kind::Measured, "no window with tokens and a duration", |o| {
        o.tokens_per_second()
    });
    let untold: &[(&'static str, &'static str)] = match summary.cell.workload.phase {
        Phase::Prefill => &[("ttft", "ms"), ("load_seconds", "s")],
        Phase::Decode => &[
            ("token_latency_p50", "ms"),
            ("token_latency_p90", "ms"),
            ("token_latency_p99", "ms"),
            ("load_seconds", "s"),
        ],
    };
    for &(name, unit) in untold {
        c.add(name, unit, Kind::Measured, UNTOLD, |_| None);
    }
    c.add("process_seconds", "s", Kind::Measured, "", |o| Some(o.process_ns as f64 / 1e9));
    memory(&mut c);
    share(&mut c, summary.cell.workload.phase);
    energy(&mut c);
    summary.metrics = c.out;
}

fn memory(c: &mut Collector<'_, Outside>) {
    let unseen = "the process ended before it was looked at";
    let peak = |o: &Outside| o.memory.peak_rss_bytes.map(|b| b as f64);
    let predicted = |o: &Outside| (o.memory.predicted_bytes > 0).then_some(o.memory.predicted_bytes as f64);
    c.add("peak_rss_bytes", "bytes", Kind::Measured, unseen, peak);
    c.add("predicted_peak_bytes", "bytes", Kind::Modelled, "no prediction", predicted);
    c.add("peak_over_predicted", "ratio", Kind::Derived, unseen, |o| Some(peak(o)? / predicted(o)?));
    c.add("weights_bytes", "bytes", Kind::Measured, "", |o| Some(o.model.bytes as f64));
    c.add("linear_bytes", "bytes", Kind::Measured, UNTOLD, |_| None);
    c.add("kv_bytes", "bytes", Kind::Measured, UNTOLD, |_| None);
    c.add("read_per_token_bytes", "bytes", Kind::Modelled, "", |o| Some(o.model.read_per_token_bytes() as f64));
    note(c, "all tensors of the model file, each once, the embedding too");
}

/// Decode: the share of bandwidth if all of the file is read for a token. Prefill: none.
fn share(c: &mut Collector<'_, Outside>, phase: Phase) {
    if phase == Phase::Prefill {
        let reason = "what an outside program multiplies is not known";
        c.add("compute_share", "ratio", Kind::Derived, reason, |_| None);
        return;
    }
    c.add("bandwidth_share", "ratio", Kind::Modelled, "read bandwidth was not measured", |o| {
        o.limit.as_ref().map(|share| share.share_ppm as f64 / 1e6)
    });
    let of = c.processes.iter().find_map(|o| o.limit.as_ref()).map(|share| format!("of {}, ", share.of.name));
    note(c, &format!("{}if all of the model file is read for a token", of.unwrap_or_default()));
}

fn energy(c: &mut Collector<'_, Outside>) {
    let why = c.processes.iter().find_map(|o| match &o.process_energy {
        Energy::Unavailable { reason } => Some(reason.clone()),
        _ => None,
    });
    let why = why.unwrap_or_else(|| "no joules".to_owned());
    // Modelled joules, marked as such, only where no process has measured ones.
    let measured = c.processes.iter().any(|o| matches!(o.process_energy, Energy::Measured(_)));
    let modelled = c.processes.iter().any(|o| matches!(o.process_energy, Energy::Modelled(_)));
    let kind = if modelled && !measured { Kind::Modelled } else { Kind::Measured };
    c.add("process_joules", "J", kind, &why, |o| match &o.process_energy {
        Energy::Measured(joules) => Some(joules.total_uj as f64 / 1e6),
        Energy::Modelled(joules) if !measured => Some(joules.total_uj as f64 / 1e6),
        _ => None,
    });
    let marked =
        if kind == Kind::Modelled { "modelled, loading and warm-up included" } else { "loading and warm-up included" };
    note(c, marked);
    let reason = if measured || modelled { NO_JOULES } else { why.as_str() };
    c.add("joules_per_token", "J/token", kind, reason, |_| None);
}

/// Adds to the note of the last metric, if it has a figure.
fn note(c: &mut Collector<'_, Outside>, text: &str) {
    if let Some(metric) = c.out.last_mut()
        && metric.figure.is_ok()
    {
        metric.note = Some(metric.note.take().map_or(text.to_owned(), |note| format!("{text}; {note}")));
    }
}

/// The section of the page, or nothing in a run without outside engines.
pub(crate) fn section(data: &RunData, analysis: &Analysis) -> String {
    if !analysis.cells.iter().any(|c| c.outside) {
        return String::new();
    }
    let mut out = format!("## Beside outside engines\n\n{NOTE}\n\n");
    let rows = ratios(analysis);
    if rows.is_empty() {
        out.push_str("No cell was measured beside one of an outside engine.\n\n");
    } else {
        let header = [
            "model",
            "workload",
            "threads",
            "engine",
            "tokens/s",
            "outside engine",
            "tokens/s, unchecked",
            "ours / theirs",
        ];
        let _ = writeln!(out, "{}", markdown_table(&header.map(str::to_owned), &rows, 2));
    }
    let rows = programs(data);
    if !rows.is_empty() {
        let header = ["outside engine", "program", "built from", "model", "file", "read as", "file size", "arguments"];
        let _ = writeln!(out, "{}", markdown_table(&header.map(str::to_owned), &rows, 6));
    }
    out
}

/// Each own cell beside each outside one of its place.
fn ratios(analysis: &Analysis) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for own in analysis.cells.iter().filter(|c| c.status == Status::Ok) {
        for theirs in analysis.cells.iter().filter(|c| c.status == Status::Outside) {
            let Some(ratio) = own.figure(&ratio(&theirs.cell.engine)) else { continue };
            let place = |c: &CellSummary| (c.cell.model.clone(), c.cell.workload, c.cell.threads, variant(&c.cell));
            if place(own) != place(theirs) {
                continue;
            }
            let speed = |c: &CellSummary| c.figure("tokens_per_second").map_or("N/A".to_owned(), with_interval);
            rows.push(vec![
                escape(&own.cell.model),
                code(&own.cell.workload.to_string()),
                escape(&format!("{}{}", own.cell.threads, variant(&own.cell))),
                escape(&own.cell.engine),
                speed(own),
                escape(&theirs.cell.engine),
                speed(theirs),
                format!("{}×", with_interval(ratio)),
            ]);
        }
    }
    rows
}

/// What the outside programs say of themselves and of their models, once for each engine and model.
fn programs(data: &RunData) -> Vec<Vec<String>> {
    let mut first: BTreeMap<(&str, &str), &Outside> = BTreeMap::new();
    for record in &data.records {
        if let Some(outside) = record.outside() {
            first.entry((&record.cell.engine, &record.cell.model)).or_insert(outside);
        }
    }
    let row = |((engine, model), o): ((&str, &str), &Outside)| {
        let (program, file) = (&o.program, &o.model);
        let build = program.build.map_or(String::new(), |number| format!(" (build {number})"));
        let given = data.run.outside.iter().find(|known| known.name == engine);
        let args = given.map_or(String::new(), |known| known.args.join(" "));
        let isa = program.isa.as_ref().map_or(String::new(), |isa| format!(", for {isa}"));
        vec![
            escape(engine),
            escape(&format!("{}, {}{isa}", program.file, program.kind.name())),
            escape(&format!("{}{build}", program.commit.as_deref().unwrap_or("unknown"))),
            escape(model),
            escape(&file.file),
            escape(&file.description),
            file.file_bytes.map_or("N/A".to_owned(), |size| bytes(size as f64)),
            if args.is_empty() { String::new() } else { code(&args) },
        ]
    };
    first.into_iter().map(row).collect()
}
