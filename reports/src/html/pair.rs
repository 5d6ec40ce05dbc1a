//! The page of two runs side by side. Their figures are never averaged; they are divided only where machine and build
//! are alike.

use super::figures::{Column, PLACE, Row, Table, Text, columns, place, status};
use super::picture::{Picture, picture};
use super::run::{Choices, alerts, choices, provenance};
use super::{PAIR, Part, fill, line};
use crate::analysis::Analysis;
use crate::cells::CellSummary;
use crate::compare::machines_differ;
use crate::load::RunData;
use crate::plot::charts;
use crate::sections;
use crate::text::short;
use serde::Serialize;
use std::collections::BTreeMap;
use suites::cell::Cell;
use suites::run::Run;

#[derive(Serialize)]
struct Page {
    runs: Vec<Side>,
    facts: Vec<Fact>,
    /// Why figures are not divided; empty where they are.
    withheld: Vec<String>,
    cells: Table,
    choices: Choices,
    /// How many cells each run has for itself.
    alone: [usize; 2],
    /// Each chart of the first run, and below it the second's.
    pictures: Vec<Picture>,
    /// Titles of charts that would make the page too big.
    left_out: Vec<String>,
}

/// Most bytes that the charts of both runs take: with the tables, a page stays below 3 MiB.
const CHARTS_BYTES: usize = 2 << 20;

/// One of the two runs.
#[derive(Serialize)]
struct Side {
    name: String,
    suite: String,
    counts: String,
    command: String,
    warnings: Vec<String>,
}

/// A fact of both runs.
#[derive(Serialize)]
struct Fact {
    name: &'static str,
    values: [String; 2],
    differs: bool,
}

/// The text of the page.
pub(super) fn page(one: &RunData, other: &RunData) -> Result<String, String> {
    let (first, second) = (Analysis::new(one), Analysis::new(other));
    let withheld = withheld(&one.run, &other.run);
    let side = |data: &RunData, analysis: &Analysis| Side {
        name: line(&data.run.name),
        suite: line(&data.run.suite),
        counts: sections::counts(data, analysis),
        command: line(&sections::command(data)),
        warnings: alerts(data, analysis),
    };
    let index: BTreeMap<&Cell, &CellSummary> = second.cells.iter().map(|c| (&c.cell, c)).collect();
    let shared: Vec<(&CellSummary, &CellSummary)> =
        first.cells.iter().filter_map(|c| Some((c, *index.get(&c.cell)?))).collect();
    let mut choices = choices(&first);
    choices.statuses.clear();
    let (pictures, left_out) = pictures([(one, &first), (other, &second)])?;
    let page = Page {
        runs: vec![side(one, &first), side(other, &second)],
        facts: facts(one, other),
        cells: table(&first, &shared, [&one.run.name, &other.run.name], withheld.is_empty()),
        alone: [first.cells.len() - shared.len(), second.cells.len() - shared.len()],
        withheld,
        choices,
        pictures,
        left_out,
    };
    let title = format!("Runs {} and {}", page.runs[0].name, page.runs[1].name);
    let mut parts = vec![
        Part { id: "machine", title: "Machine and build" },
        Part { id: "figures", title: "Cells of both runs" },
        Part { id: "charts", title: "Charts" },
    ];
    parts.retain(|part| part.id != "charts" || !(page.pictures.is_empty() && page.left_out.is_empty()));
    fill(PAIR, &title, &parts, &page)
}

/// The charts of both runs, those of one subject below each other, as far as the page has room; and the titles of the others.
fn pictures(runs: [(&RunData, &Analysis); 2]) -> Result<(Vec<Picture>, Vec<String>), String> {
    let mut subjects: Vec<(&'static str, String, Vec<Picture>)> = Vec::new();
    for ((data, analysis), side) in runs.into_iter().zip(["first", "second"]) {
        for (plot, chart) in charts::all(data, analysis) {
            let (stem, title) = (plot.stem, plot.title.clone());
            let drawn = picture(plot, chart)?.of_run(side, &line(&data.run.name));
            match subjects.iter_mut().find(|(known, ..)| *known == stem) {
                Some((.., pictures)) => pictures.push(drawn),
                None => subjects.push((stem, title, vec![drawn])),
            }
        }
    }
    let (mut shown, mut left_out, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (_, title, pictures) in subjects {
        let more: usize = pictures.iter().map(Picture::weight).sum();
        if bytes + more > CHARTS_BYTES {
            left_out.push(title);
        } else {
            bytes += more;
            shown.extend(pictures);
        }
    }
    Ok((shown, left_out))
}

/// What differs between machines or builds so that a ratio of speeds would not be one of what was changed.
fn withheld(one: &Run, other: &Run) -> Vec<String> {
    let (b, c) = (&one.build, &other.build);
    let alike = [
        ("optimisation level", b.opt_level == c.opt_level),
        ("debug assertions", b.debug_assertions == c.debug_assertions),
        ("target", b.target == c.target),
    ];
    let builds = alike.into_iter().filter(|(_, same)| !same).map(|(what, _)| what);
    let machines = machines_differ(&one.machine, &other.machine).into_iter();
    let mut differ: Vec<String> = machines.chain(builds).map(str::to_owned).collect();
    // Dev and release generate the same code.
    let optimised = |profile: &str| matches!(profile, "dev" | "release");
    if b.profile != c.profile && !(optimised(&b.profile) && optimised(&c.profile)) {
        differ.push("profile".to_owned());
    }
    differ
}

/// Facts of both runs; one that is there more than once (models) is put together.
fn facts(one: &RunData, other: &RunData) -> Vec<Fact> {
    let gather = |data: &RunData| {
        let mut names: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in provenance(data) {
            match names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => *values = format!("{values}; {value}"),
                None => names.push((name, value)),
            }
        }
        names
    };
    let (first, mut second) = (gather(one), gather(other));
    let mut all = Vec::new();
    for (name, value) in first {
        let found = second.iter().position(|(other, _)| *other == name).map(|i| second.remove(i).1);
        let values = [value, found.unwrap_or_default()];
        all.push(Fact { name, differs: values[0] != values[1], values });
    }
    all.extend(second.into_iter().map(|(name, value)| Fact { name, values: [String::new(), value], differs: true }));
    all
}

fn table(analysis: &Analysis, shared: &[(&CellSummary, &CellSummary)], names: [&String; 2], divide: bool) -> Table {
    let mut rows = Vec::new();
    for (first, second) in shared {
        let mut row = place(analysis, first);
        row.extend([first, second].map(|cell| speed(cell)));
        if divide {
            row.push(ratio(first, second));
        }
        row.extend([first, second].map(|cell| joules(cell)));
        rows.push(Row { status: status(first.status), cells: row });
    }
    let [one, other] = names.map(|name| line(name));
    let mut figures = vec![format!("{one}, tokens/s"), format!("{other}, tokens/s")];
    if divide {
        figures.push("second over first, ×".to_owned());
    }
    figures.extend([format!("{one}, J/token"), format!("{other}, J/token")]);
    let columns: Vec<Column> = columns(&PLACE, figures);
    Table { id: "cells-table", caption: "Speed and joules of each cell".to_owned(), columns, rows, notes: Vec::new() }
}

/// Tokens/s with interval and n, or what became of the cell.
fn speed(cell: &CellSummary) -> Text {
    match cell.figure("tokens_per_second") {
        Some(figure) if cell.status.measured() => {
            let outside = if cell.outside { ", not checked" } else { "" };
            let interval = figure.interval.map_or(String::new(), |(lo, hi)| format!("[{}, {}] ", short(lo), short(hi)));
            let small = format!("{interval}n={}{outside}", figure.n);
            Text { main: short(figure.value), small, look: "" }
        }
        _ => Text {
            main: status(cell.status).to_owned(),
            small: line(cell.reason.as_deref().unwrap_or("no figure")),
            look: if cell.status == crate::cells::Status::Failed { "failed" } else { "na" },
        },
    }
}

/// Joules a token, marked measured or modelled.
fn joules(cell: &CellSummary) -> Text {
    let Some(metric) = cell.metric("joules_per_token") else { return Text::default() };
    match &metric.figure {
        Ok(figure) => {
            let interval = figure.interval.map_or(String::new(), |(lo, hi)| format!("[{}, {}] ", short(lo), short(hi)));
            Text { main: short(figure.value), small: format!("{interval}{}", metric.kind.name()), look: "" }
        }
        Err(reason) => Text { main: "N/A".to_owned(), small: line(reason), look: "na" },
    }
}

/// The ratio of two medians. Nothing where one is missing.
fn ratio(first: &CellSummary, second: &CellSummary) -> Text {
    let of = |cell: &CellSummary| cell.figure("tokens_per_second").filter(|f| cell.status.measured() && f.value > 0.0);
    match (of(first), of(second)) {
        (Some(a), Some(b)) => Text::plain(short(b.value / a.value)),
        _ => Text::default(),
    }
}
