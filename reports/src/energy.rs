//! The page's section of energy: joules by cell, by stage, by source, and what the papers' arithmetic makes of a token.
//! Every row says in words whether its joules were measured or modelled.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind, Metric};
use crate::joules::{ARITHMETIC, AT_7_NM_METRIC, AT_45_NM_METRIC, STAGES, kind_of, marked, sources, stem, windows};
use crate::load::RunData;
use crate::text::{bytes, code, escape, markdown_table, short, with_interval};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use suites::cell::Cell;
use suites::record::{Energy, EnergyKind, Measurement, READERS_DISAGREE};

const CELLS: &str = "Joules of the timed windows, loading left out; net of what the machine takes at rest. Energy-delay is joules a token \
    times seconds a token.";
const STAGES_NOTE: &str = "Each figure is of the most trusted source that has a total in that stage; net of rest by the same source. Peak memory is the \
    stage's own.";
const SIDE_BY_SIDE: &str = "Joules a token of the same windows by every source that measured, the most trusted first.";
const MODELLED: &str = "What the additions and multiplications of a token would take by the papers' constants (2310.11453): **modelled**, \
    without memory, control or this machine. The ratio is what the papers' claims of energy rest on.";

/// The section; one line where nothing has joules.
pub(crate) fn section(data: &RunData, analysis: &Analysis) -> String {
    let sources = escape(data.run.machine.energy.trim_end_matches('.'));
    let mut out = format!("## Energy\n\nSources on this machine: {sources}.\n\n");
    out.push_str(&by_cell(analysis));
    out.push_str(&by_stage(analysis));
    out.push_str(&side_by_side(data, analysis));
    out.push_str(&arithmetic(analysis));
    out.push_str(&list(&unavailable(analysis)));
    let doubts: Vec<String> = doubts(data).iter().map(|line| escape(line)).collect();
    out.push_str(&list(&doubts));
    out
}

/// What [`place`] says of a row's cell.
const PLACE: [&str; 4] = ["model", "engine", "threads", "workload"];

/// A table under `title`, whose rows begin with their place; `left` of all columns are words.
fn table(title: &str, note: &str, header: &[&str], rows: &[Vec<String>], left: usize) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let header: Vec<String> = PLACE.iter().chain(header).map(|&h| h.to_owned()).collect();
    let title = if title.is_empty() { String::new() } else { format!("### {title}\n\n") };
    format!("{title}{note}\n\n{}\n", markdown_table(&header, rows, left))
}

fn list(lines: &[String]) -> String {
    let mut out: String = lines.iter().map(|line| format!("- {line}\n")).collect();
    if !lines.is_empty() {
        out.push('\n');
    }
    out
}

/// Model, engine, threads with what sets the cell apart, workload.
fn place(analysis: &Analysis, cell: &CellSummary) -> Vec<String> {
    let of = &cell.cell;
    let threads = format!("{}{}", of.threads, variant(of));
    vec![escape(&of.model), escape(&analysis.shown(&of.engine)), escape(&threads), code(&of.workload.to_string())]
}

/// Measured or modelled, in words.
fn kind(kind: Kind) -> String {
    if kind == Kind::Modelled { "**modelled**".to_owned() } else { kind.name().to_owned() }
}

fn source(metric: &Metric) -> String {
    escape(metric.source.as_deref().unwrap_or("unknown"))
}

/// A figure with its interval; `N/A` if there is none.
fn figure(cell: &CellSummary, name: &str) -> String {
    cell.figure(name).map_or("N/A".to_owned(), with_interval)
}

/// A figure alone; `N/A` if it is unknown, nothing where the cell has no such metric.
fn middle(cell: &CellSummary, name: &str) -> String {
    let Some(metric) = cell.metric(name) else { return String::new() };
    metric.figure.as_ref().map_or("N/A".to_owned(), |f| short(f.value))
}

fn by_cell(analysis: &Analysis) -> String {
    let mut rows = Vec::new();
    for cell in &analysis.cells {
        let Some(metric) = cell.metric("joules_per_token").filter(|m| m.figure.is_ok()) else { continue };
        let mut row = place(analysis, cell);
        row.extend([source(metric), kind(metric.kind)]);
        row.extend(["joules_per_token", "net_joules_per_token"].map(|name| figure(cell, name)));
        row.extend(["average_watts", "peak_watts", "energy_delay"].map(|name| middle(cell, name)));
        rows.push(row);
    }
    let header = ["source", "kind", "J/token", "net of rest", "mean W", "peak W", "energy-delay, J s"];
    table("", CELLS, &header, &rows, 6)
}

/// A row a stage that has joules. Without any, the page has no table of stages: their memory is in `summary.csv`.
fn by_stage(analysis: &Analysis) -> String {
    let mut rows = Vec::new();
    for cell in &analysis.cells {
        for (_, name, title) in STAGES {
            let joules = format!("{name}_joules");
            let Some(metric) = cell.metric(&joules).filter(|m| m.figure.is_ok()) else { continue };
            let mut row = place(analysis, cell);
            row.extend([title.to_owned(), source(metric), kind(metric.kind)]);
            row.push(middle(cell, &joules));
            row.extend(["net_joules", "watts", "peak_watts"].map(|what| middle(cell, &format!("{name}_{what}"))));
            let peak = cell.figure(&format!("{name}_peak_rss_bytes"));
            row.push(peak.map_or("N/A".to_owned(), |f| bytes(f.value)));
            rows.push(row);
        }
    }
    let header = ["stage", "source", "kind", "joules", "net of rest", "mean W", "peak W", "peak memory"];
    table("From rest to rest", STAGES_NOTE, &header, &rows, 7)
}

/// Names of the sources that measured a total in the windows of each cell that has several, in the order of trust.
fn measuring(data: &RunData) -> BTreeMap<&Cell, Vec<String>> {
    let mut by_cell: BTreeMap<&Cell, Vec<(u32, &Measurement)>> = BTreeMap::new();
    for record in &data.records {
        by_cell.entry(&record.cell).or_default().extend(record.measurement().map(|m| (record.block, m)));
    }
    let mut several = BTreeMap::new();
    for (cell, mut processes) in by_cell {
        processes.sort_by_key(|(block, _)| *block);
        let found = sources(processes.into_iter().map(|(_, m)| m), &[windows(cell.workload.phase)]);
        let measured = found.into_iter().filter(|(_, kind)| *kind == EnergyKind::Measured);
        let names: Vec<String> = measured.map(|(name, _)| name).collect();
        if names.len() > 1 {
            several.insert(cell, names);
        }
    }
    several
}

fn side_by_side(data: &RunData, analysis: &Analysis) -> String {
    let mut rows = Vec::new();
    let several = measuring(data);
    for cell in &analysis.cells {
        let Some(names) = several.get(&cell.cell) else { continue };
        for name in names {
            let ratio = cell.figure(&format!("{}_over_{}", stem(name), stem(&names[0])));
            let apart = ratio.is_some_and(|r| (r.value - 1.0).abs() > READERS_DISAGREE);
            let mut row = place(analysis, cell);
            row.extend([escape(name), kind(Kind::Measured), figure(cell, &format!("{}_joules_per_token", stem(name)))]);
            row.push(match ratio {
                Some(ratio) => with_interval(ratio),
                None if name == &names[0] => "the most trusted".to_owned(),
                None => "N/A".to_owned(),
            });
            row.push(if apart { "**over 2 % apart**".to_owned() } else { String::new() });
            rows.push(row);
        }
    }
    let header = ["source", "kind", "J/token", "over the most trusted", "disagreement"];
    table("Sources side by side", SIDE_BY_SIDE, &header, &rows, 6)
}

fn arithmetic(analysis: &Analysis) -> String {
    let mut rows = Vec::new();
    let index: BTreeMap<&Cell, &CellSummary> = analysis.cells.iter().map(|c| (&c.cell, c)).collect();
    for cell in &analysis.cells {
        let Some(own) = cell.figure(AT_7_NM_METRIC) else { continue };
        let pair = analysis.pairs.iter().find(|(candidate, _)| *candidate == cell.cell.engine);
        let baseline = pair.and_then(|(_, baseline)| {
            let mut like = cell.cell.clone();
            like.engine.clone_from(baseline);
            index.get(&like).copied()
        });
        let ratio = |name: &str| {
            let (ours, theirs) = (cell.figure(name)?.value, baseline?.figure(name)?.value);
            (ours > 0.0).then(|| format!("{}×", short(theirs / ours)))
        };
        let mut row = place(analysis, cell);
        row.extend([kind(Kind::Modelled), short(own.value), middle(cell, AT_45_NM_METRIC)]);
        row.extend([AT_7_NM_METRIC, AT_45_NM_METRIC].map(|name| ratio(name).unwrap_or_default()));
        rows.push(row);
    }
    let header = ["kind", "J/token, 7 nm", "J/token, 45 nm", "baseline over it, 7 nm", "baseline over it, 45 nm"];
    table("Modelled, not measured", MODELLED, &header, &rows, 5)
}

/// Why cells have no joules a token, cells of one reason counted together.
fn unavailable(analysis: &Analysis) -> Vec<String> {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for cell in &analysis.cells {
        let Some(Err(reason)) = cell.metric("joules_per_token").map(|m| &m.figure) else { continue };
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    let line = |(reason, count): (&str, usize)| {
        format!("J/token unavailable in {count} cell{}: {}", if count == 1 { "" } else { "s" }, escape(reason))
    };
    reasons.into_iter().map(line).collect()
}

/// What makes the joules of the records less than certain, each once, with its source and kind.
pub(crate) fn doubts(data: &RunData) -> Vec<String> {
    let mut all: BTreeSet<(bool, &str, &str)> = BTreeSet::new();
    for record in &data.records {
        let whole = match (record.measurement(), record.outside()) {
            (Some(m), _) => Some(&m.energy),
            (_, Some(outside)) => Some(&outside.process_energy),
            _ => None,
        };
        let joules = match whole {
            Some(Energy::Measured(joules)) => Some((false, joules)),
            Some(Energy::Modelled(joules)) => Some((true, joules)),
            _ => None,
        };
        if let Some((modelled, joules)) = joules {
            all.extend(joules.doubts.iter().map(|doubt| (modelled, joules.source.as_str(), doubt.as_str())));
        }
        for source in record.measurement().iter().flat_map(|m| &m.phases).flat_map(|s| &s.sources) {
            // What the arithmetic leaves out is said above its table.
            if source.source != ARITHMETIC {
                let modelled = kind_of(source.kind) == Kind::Modelled;
                all.extend(source.doubts.iter().map(|doubt| (modelled, source.source.as_str(), doubt.as_str())));
            }
        }
    }
    let line = |(modelled, source, doubt): (bool, &str, &str)| {
        let mut line = String::new();
        let kind = if modelled { Kind::Modelled } else { Kind::Measured };
        let _ = write!(line, "doubt of {}: {}", marked(source, kind), doubt);
        line
    };
    all.into_iter().map(line).collect()
}
