//! Tables of all cells and metrics.

use super::line;
use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Kind, Metric, Status};
use crate::joules::marked;
use crate::text::{Footnotes, short};
use serde::Serialize;

/// A table as the template has it.
#[derive(Serialize)]
pub(super) struct Table {
    pub(super) id: &'static str,
    pub(super) caption: String,
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// Footnotes, numbered from 1.
    pub(super) notes: Vec<String>,
}

/// A column's header.
#[derive(Serialize)]
pub(super) struct Column {
    pub(super) title: String,
    /// Whether it holds figures.
    pub(super) number: bool,
}

/// A row; the first of its cells is its header.
#[derive(Serialize)]
pub(super) struct Row {
    /// Statuses by which it is filtered, as the page has them.
    pub(super) status: &'static str,
    pub(super) cells: Vec<Text>,
}

/// A cell of a table: a figure, and its interval or a remark in small print.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Text {
    pub(super) main: String,
    pub(super) small: String,
    /// How it looks: nothing, or `failed`, `na`, `outside`.
    pub(super) look: &'static str,
}

impl Text {
    pub(super) fn plain(text: impl Into<String>) -> Text {
        Text { main: text.into(), ..Text::default() }
    }
}

/// What tables call a status.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::Ok => "measured",
        Status::Outside => "outside",
        Status::Failed => "FAILED",
        Status::Na => "N/A",
    }
}

fn look(status: Status) -> &'static str {
    match status {
        Status::Ok => "",
        Status::Outside => "outside",
        Status::Failed => "failed",
        Status::Na => "na",
    }
}

/// Titles of [`place`].
pub(super) const PLACE: [&str; 4] = ["model", "engine", "threads", "workload"];

/// Column headers: words first, then figures.
pub(super) fn columns(words: &[&str], figures: impl IntoIterator<Item = String>) -> Vec<Column> {
    let word = |title: &&str| Column { title: (*title).to_owned(), number: *title == "threads" || *title == "n" };
    let mut all: Vec<Column> = words.iter().map(word).collect();
    all.extend(figures.into_iter().map(|title| Column { title, number: true }));
    all
}

/// Model, engine, threads with what sets the cell apart, workload.
pub(super) fn place(analysis: &Analysis, cell: &CellSummary) -> Vec<Text> {
    let of = &cell.cell;
    let threads = Text { main: of.threads.to_string(), small: line(variant(of).trim()), look: "" };
    let words = [line(&of.model), line(&analysis.shown(&of.engine))].map(Text::plain);
    words.into_iter().chain([threads, Text::plain(of.workload.to_string())]).collect()
}

/// A unit as columns have it, and what figures are multiplied by.
fn unit(metric: &Metric) -> (&'static str, f64) {
    match metric.unit {
        "bytes" => ("MiB", 1.0 / f64::from(1u32 << 20)),
        "ratio" if metric.name.ends_with("_share") => ("%", 100.0),
        "ratio" => ("ratio", 1.0),
        "x" => ("×", 1.0),
        unit => (unit, 1.0),
    }
}

/// A metric's figure with interval; the reason in a footnote where it is unavailable. `kind` says where the figure comes
/// from in the cell itself, `n` is the row's: another is said in the cell.
fn figure(metric: &Metric, kind: bool, n: usize, notes: &mut Footnotes) -> Text {
    let found = match &metric.figure {
        Ok(found) => *found,
        Err(reason) => {
            return Text { main: format!("N/A ({})", notes.number(&line(reason))), look: "na", ..Text::default() };
        }
    };
    let scaled = found.scaled(unit(metric).1);
    let mut small = scaled.interval.map_or(String::new(), |(low, high)| format!("[{}, {}]", short(low), short(high)));
    let mut add = |text: &str| {
        small.push_str(if small.is_empty() { "" } else { " " });
        small.push_str(text);
    };
    if found.n != n {
        add(&format!("n={}", found.n));
    }
    if kind {
        add(metric.kind.name());
    }
    // Joules name their source here; a note that says more is kept.
    let named = kind.then(|| metric.source.as_deref().map(|source| format!("source {}", marked(source, metric.kind))));
    if let (Some(source), true) = (&metric.source, kind) {
        add(&line(source));
    }
    if let Some(note) = metric.note.as_ref().filter(|note| named.flatten().as_ref() != Some(*note)) {
        add(&format!("({})", notes.number(&line(note))));
    }
    Text { main: short(scaled.value), small, look: "" }
}

/// Processes behind a cell's speed.
fn replicates(cell: &CellSummary) -> usize {
    let speed = cell.figure("tokens_per_second").map(|f| f.n);
    speed.or_else(|| cell.metrics.iter().find_map(|m| m.figure.as_ref().ok().map(|f| f.n))).unwrap_or(0)
}

/// Every cell with what became of it: status, speed, speed-up, joules, memory, and the reason where something is missing.
pub(super) fn cells(analysis: &Analysis) -> Table {
    const MAIN: [(&str, &str); 4] = [
        ("tokens_per_second", "tokens/s"),
        ("speedup", "speed-up, ×"),
        ("joules_per_token", "J/token"),
        ("peak_rss_bytes", "peak memory, MiB"),
    ];
    let mut notes = Footnotes::default();
    let mut rows = Vec::new();
    for cell in &analysis.cells {
        let n = replicates(cell);
        let mut row = place(analysis, cell);
        row.push(Text { main: status(cell.status).to_owned(), small: String::new(), look: look(cell.status) });
        row.push(Text::plain(if n == 0 { String::new() } else { n.to_string() }));
        row.extend(MAIN.iter().map(|(name, _)| match cell.metric(name) {
            Some(metric) => figure(metric, metric.unit.starts_with('J'), n, &mut notes),
            None => Text::default(),
        }));
        row.push(Text::plain(cell.reason.as_deref().map_or(String::new(), line)));
        rows.push(Row { status: status(cell.status), cells: row });
    }
    let words = [PLACE[0], PLACE[1], PLACE[2], PLACE[3], "status", "n"];
    let mut columns = columns(&words, MAIN.iter().map(|(_, title)| (*title).to_owned()));
    columns.push(Column { title: "reason or remark".to_owned(), number: false });
    Table { id: "cells-table", caption: "Every cell".to_owned(), columns, rows, notes: texts(&notes) }
}

fn texts(notes: &Footnotes) -> Vec<String> {
    notes.texts().map(|(_, text)| text.to_owned()).collect()
}

/// A subject with a table of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Speed,
    Memory,
    Energy,
    Other,
}

fn subject(metric: &Metric) -> Subject {
    let name = metric.name.as_ref();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if metric.unit.starts_with(['J', 'W']) || metric.source.is_some() || has(&["joules", "watts", "energy"]) {
        return Subject::Energy;
    }
    if metric.unit == "bytes" || name == "peak_over_predicted" {
        return Subject::Memory;
    }
    let speed =
        has(&["tokens_per_second", "ttft", "latency", "seconds", "speedup", "bandwidth_share", "compute_share"]);
    if speed || name.starts_with("ratio_to_") { Subject::Speed } else { Subject::Other }
}

/// Every metric of every measured cell, a table a subject.
pub(super) fn metrics(analysis: &Analysis) -> Vec<Table> {
    let subjects = [
        (Subject::Speed, "speed-table", "Speed and latency"),
        (Subject::Memory, "memory-table", "Memory and bytes"),
        (Subject::Energy, "energy-table", "Energy"),
        (Subject::Other, "other-table", "Other metrics"),
    ];
    let table = |(subject, id, caption): (Subject, &'static str, &str)| by_subject(analysis, subject, id, caption);
    subjects.into_iter().filter_map(table).collect()
}

fn by_subject(analysis: &Analysis, wanted: Subject, id: &'static str, caption: &str) -> Option<Table> {
    let mut names: Vec<&Metric> = Vec::new();
    let all = || analysis.cells.iter().flat_map(|c| &c.metrics).filter(|m| subject(m) == wanted);
    let mut known = std::collections::BTreeSet::new();
    for metric in all() {
        if known.insert(&metric.name) {
            names.push(metric);
        }
    }
    if names.is_empty() {
        return None;
    }
    // A column of one kind says so once, in its header; joules say it in every cell.
    let mut mixed = std::collections::BTreeSet::new();
    let first: std::collections::BTreeMap<&str, Kind> = names.iter().map(|m| (m.name.as_ref(), m.kind)).collect();
    mixed.extend(all().filter(|m| first.get(m.name.as_ref()) != Some(&m.kind)).map(|m| m.name.as_ref()));
    let in_cell = |m: &Metric| wanted == Subject::Energy || mixed.contains(m.name.as_ref());
    let title = |m: &&Metric| {
        let kind = if in_cell(m) { String::new() } else { format!(", {}", m.kind.name()) };
        format!("{}, {}{kind}", line(&m.name.replace('_', " ")), unit(m).0)
    };
    let mut notes = Footnotes::default();
    let mut rows = Vec::new();
    for cell in analysis.cells.iter().filter(|c| c.metrics.iter().any(|m| subject(m) == wanted)) {
        let n = replicates(cell);
        let mut row = place(analysis, cell);
        row.push(Text::plain(n.to_string()));
        row.extend(names.iter().map(|m| match cell.metric(&m.name) {
            Some(metric) => figure(metric, in_cell(metric), n, &mut notes),
            None => Text::default(),
        }));
        rows.push(Row { status: status(cell.status), cells: row });
    }
    let words = [PLACE[0], PLACE[1], PLACE[2], PLACE[3], "n"];
    let columns = columns(&words, names.iter().map(title));
    Some(Table { id, caption: caption.to_owned(), columns, rows, notes: texts(&notes) })
}
