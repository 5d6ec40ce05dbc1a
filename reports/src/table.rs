//! The table printed at the end of a suite.

use crate::analysis::{Analysis, variant};
use crate::cells::{CellSummary, Status};
use crate::load::RunData;
use crate::text::{Footnotes, plain, short};
use comfy_table::{CellAlignment, Table, presets};
use std::collections::BTreeMap;
use std::fmt::Write;
use suites::cell::{Phase, Workload};

/// Column of a table: thread count and variant, then the engine's place.
type Column = (u32, String, usize);

/// Tokens per second of every cell, a table a workload: models down, threads and engines across, speed-ups beside
/// them. Cells without a figure print `FAILED` or `N/A` and the number of a footnote that says why.
pub fn table(data: &RunData) -> String {
    let analysis = Analysis::new(data);
    if analysis.cells.is_empty() {
        return "no cells\n".to_owned();
    }
    let mut notes = Footnotes::default();
    let mut out = String::new();
    for workload in analysis.workloads() {
        let what = match workload.phase {
            Phase::Prefill => "prefill",
            Phase::Decode => "decode",
        };
        // Writing to a String can't fail.
        let _ = writeln!(out, "{workload} ({what}), tokens/s, median of processes");
        let _ = writeln!(out, "{}\n", workload_table(&analysis, workload, &mut notes));
    }
    for (number, text) in notes.texts() {
        let _ = writeln!(out, "({number}) {}", plain(text));
    }
    out
}

fn workload_table(analysis: &Analysis, workload: Workload, notes: &mut Footnotes) -> Table {
    let mut rows: BTreeMap<usize, BTreeMap<Column, &CellSummary>> = BTreeMap::new();
    let mut columns: Vec<Column> = Vec::new();
    for cell in analysis.cells.iter().filter(|c| c.cell.workload == workload) {
        let model = analysis.models.iter().position(|m| m.name == cell.cell.model).unwrap_or(usize::MAX);
        let engine = analysis.engines.iter().position(|e| *e == cell.cell.engine).unwrap_or(usize::MAX);
        let column = (cell.cell.threads, variant(&cell.cell), engine);
        rows.entry(model).or_default().insert(column.clone(), cell);
        columns.push(column);
    }
    columns.sort();
    columns.dedup();
    let speedups = |c: &Column| rows.values().any(|r| r.get(c).is_some_and(|cell| cell.metric("speedup").is_some()));
    let with_speedup: Vec<bool> = columns.iter().map(speedups).collect();
    let mut header = vec!["model".to_owned()];
    for (column, &speedup) in columns.iter().zip(&with_speedup) {
        let engine = analysis.engines.get(column.2).map_or("?".to_owned(), |engine| analysis.shown(engine));
        let threads = column.0;
        header.push(plain(&format!("{engine}{} t{threads}", column.1)));
        if speedup {
            header.push("speed-up".to_owned());
        }
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED);
    table.set_header(header);
    for (model, cells) in rows {
        let mut row = vec![plain(analysis.models.get(model).map_or("?", |m| &m.name))];
        for (column, &speedup) in columns.iter().zip(&with_speedup) {
            let cell = cells.get(column).copied();
            row.push(cell.map_or(String::new(), |c| speed_text(c, notes)));
            if speedup {
                let ratio = cell.and_then(|c| c.figure("speedup"));
                row.push(ratio.map_or(String::new(), |r| format!("{}x", short(r.value))));
            }
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn speed_text(cell: &CellSummary, notes: &mut Footnotes) -> String {
    let reason = |notes: &mut Footnotes, what: &str| {
        let text = cell.reason.as_deref().unwrap_or("no reason recorded");
        format!("{what} ({})", notes.number(text))
    };
    match cell.status {
        Status::Failed => reason(notes, "FAILED"),
        Status::Na => reason(notes, "N/A"),
        Status::Ok | Status::Outside => match (cell.figure("tokens_per_second"), &cell.reason) {
            (Some(speed), None) => short(speed.value),
            (Some(speed), Some(_)) => reason(notes, &short(speed.value)),
            (None, _) => format!("N/A ({})", notes.number("no window with tokens and a duration")),
        },
    }
}
