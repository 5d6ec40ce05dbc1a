//! Series as tables, CSV and JSON.

use super::{Key, Series, Shift};
use crate::changepoint::{LEVEL, PERMUTATIONS, SEED};
use crate::error::Error;
use crate::summary::number;
use crate::text::{code, escape, markdown_table, plain, short};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;

/// Version of the JSON document.
const SCHEMA: u32 = 1;
const HEADER: [&str; 6] = ["cell", "runs", "first", "last", "latest", "changes (advisory)"];

/// Series for a terminal, under a line that says what they have in common.
pub fn table(series: &[Series]) -> String {
    let mut out = String::new();
    for part in parts(series) {
        let mut table = Table::new();
        table.load_style(presets::ASCII_FULL_CONDENSED);
        table.set_header(HEADER);
        for row in part.iter().flat_map(rows) {
            table.add_row(row.iter().map(|text| plain(text)));
        }
        for column in [1, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        // Writing to a String can't fail.
        let _ = writeln!(out, "{}\n{table}\n", plain(&heading(&part[0].key)));
    }
    out + &reading()
}

/// Series as GitHub's Markdown.
pub fn markdown(series: &[Series]) -> String {
    let header: Vec<String> = HEADER.iter().map(|&text| text.to_owned()).collect();
    let mut out = String::new();
    for part in parts(series) {
        let row = |row: [String; 6]| {
            let mut texts: Vec<String> = row.iter().map(|text| escape(text)).collect();
            texts[0] = if row[0].is_empty() { String::new() } else { code(&row[0]) };
            texts
        };
        let rows: Vec<Vec<String>> = part.iter().flat_map(rows).map(row).collect();
        let _ = writeln!(out, "**{}**\n\n{}", escape(&heading(&part[0].key)), markdown_table(&header, &rows, 1));
    }
    out + &reading()
}

/// Series that stand under one heading.
fn parts(series: &[Series]) -> impl Iterator<Item = &[Series]> {
    series.chunk_by(|a, b| heading(&a.key) == heading(&b.key) && section(&a.key) == section(&b.key))
}

fn section(key: &Key) -> (&str, &str, &crate::class::MachineClass, &crate::class::BuildClass) {
    (&key.suite, &key.suite_digest, &key.machine, &key.build)
}

fn heading(key: &Key) -> String {
    let (machine, build) = (&key.machine, &key.build);
    let governor = machine.governor.as_ref().map_or(String::new(), |g| format!(", governor {g}"));
    let turbo = machine.turbo.map_or("", |on| if on { ", turbo on" } else { ", turbo off" });
    let cores = machine.cores.map_or(String::new(), |cores| format!(", {cores} cores"));
    let alone = build.alone.as_ref().map_or(String::new(), |run| format!("; {run}, which several builds made"));
    let digest: String = key.suite_digest.rsplit(':').next().unwrap_or("").chars().take(8).collect();
    format!(
        "{}, {} ({}), suite {} ({digest}), on {}{cores}{governor}{turbo}; {} build, {}, {}{alone}",
        key.metric,
        key.unit,
        key.kind,
        key.suite,
        machine.label(),
        build.profile,
        build.rustc,
        build.target
    )
}

/// A row of the series, and one for each change after the first.
fn rows(series: &Series) -> Vec<[String; 6]> {
    let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else { return Vec::new() };
    let interval = last.interval.map_or(String::new(), |(lo, hi)| format!(" [{}, {}]", short(lo), short(hi)));
    let without = if series.without > 0 { format!(" + {} without", series.without) } else { String::new() };
    let mut told = series.changes.iter().map(|change| tell(series, change));
    let mut rows = vec![[
        series.key.cell.clone(),
        format!("{}{without}", series.points.len()),
        date(&first.started),
        date(&last.started),
        format!("{}{interval}", short(last.value)),
        told.next().unwrap_or_default(),
    ]];
    rows.extend(told.map(|text| {
        let mut row: [String; 6] = Default::default();
        row[5] = text;
        row
    }));
    rows
}

/// `since 2026-11-24 20:28 (abc1234 dirty): 12.3 to 10.1 (-17.9 %), p 0.001`.
fn tell(series: &Series, change: &Shift) -> String {
    let point = &series.points[change.at];
    let revision = point.revision.as_ref().map_or(&*point.run, |revision| revision.get(..7).unwrap_or(revision));
    let dirty = if point.dirty == Some(true) { " dirty" } else { "" };
    let percent = change.percent().map_or(String::new(), |percent| format!(" ({percent:+.1} %)"));
    let (since, before, after) = (date(&point.started), short(change.before), short(change.after));
    format!("since {since} ({revision}{dirty}): {before} to {after}{percent}, p {:.3}", change.p)
}

/// `2026-11-24T20:28:56Z` as `2026-11-24 20:28`.
fn date(started: &str) -> String {
    started.get(..16).unwrap_or(started).replace('T', " ")
}

fn reading() -> String {
    format!(
        "Changes are advice: E-divisive with a permutation test ({PERMUTATIONS} permutations, seed {SEED}, p at most {LEVEL}), which is wrong about \
         one series in {:.0} where nothing changed and takes ten runs or so to say anything.\n",
        1.0 / LEVEL
    )
}

/// A point as a row of CSV; the header is these names.
#[derive(Serialize)]
struct Line<'a> {
    suite: &'a str,
    suite_digest: &'a str,
    machine: String,
    profile: &'a str,
    rustc: &'a str,
    cell: &'a str,
    engine: &'a str,
    model: &'a str,
    threads: u32,
    workload: &'a str,
    metric: &'a str,
    unit: &'a str,
    kind: &'a str,
    run: &'a str,
    started: &'a str,
    revision: Option<&'a str>,
    dirty: Option<bool>,
    value: String,
    lo: Option<String>,
    hi: Option<String>,
    n: u32,
    /// p of the change point that begins here.
    change_p: Option<f64>,
}

/// Every point as a row; `change_p` stands where a change point begins.
///
/// # Errors
/// Rows that CSV can't hold (none are known).
pub fn csv(series: &[Series]) -> Result<String, Error> {
    let wrong = |message: String| Error::Write { path: "history.csv".into(), message };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (one, (at, point)) in series.iter().flat_map(|one| one.points.iter().enumerate().map(move |p| (one, p))) {
        let key = &one.key;
        let line = Line {
            suite: &key.suite,
            suite_digest: &key.suite_digest,
            machine: key.machine.label(),
            profile: &key.build.profile,
            rustc: &key.build.rustc,
            cell: &key.cell,
            engine: &key.engine,
            model: &key.model,
            threads: key.threads,
            workload: &key.workload,
            metric: &key.metric,
            unit: &key.unit,
            kind: &key.kind,
            run: &point.run,
            started: &point.started,
            revision: point.revision.as_deref(),
            dirty: point.dirty,
            value: number(point.value),
            lo: point.interval.map(|(lo, _)| number(lo)),
            hi: point.interval.map(|(_, hi)| number(hi)),
            n: point.n,
            change_p: one.changes.iter().find(|change| change.at == at).map(|change| change.p),
        };
        writer.serialize(line).map_err(|e| wrong(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| wrong(e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| wrong(e.to_string()))
}

/// One document: how changes were looked for, and the series with all that their points have in common.
pub fn json(series: &[Series]) -> String {
    let test = json!({ "method": "e-divisive", "seed": SEED, "permutations": PERMUTATIONS, "level": LEVEL });
    format!("{:#}\n", json!({ "schema": SCHEMA, "change_points": test, "series": series }))
}
