//! Two runs held against each other, as text.

use super::lines::JOULES;
use super::{Change, Line, Mean, Side, Versus};
use crate::sheet::{self, Format, Sheet};
use crate::text::{Footnotes, bytes, percent, short};
use serde::Serialize;

/// Writes a comparison.
///
/// # Errors
/// None but of the writers of CSV and JSON.
pub fn show(versus: &Versus, format: Format) -> Result<String, String> {
    match format {
        Format::Json => sheet::json(versus),
        Format::Csv => csv(versus),
        Format::Table | Format::Markdown => Ok(sheet::text(&sheets(versus), format)),
    }
}

const HEADER: [&str; 15] = [
    "baseline",
    "candidate",
    "of",
    "metric",
    "unit",
    "baseline_value",
    "candidate_value",
    "baseline_n",
    "candidate_n",
    "ratio",
    "lo",
    "hi",
    "change",
    "kind",
    "notes",
];

/// A row of the CSV, in the order of [`HEADER`].
#[derive(Default, Serialize)]
struct Row<'a> {
    baseline: &'a str,
    candidate: &'a str,
    of: String,
    metric: &'a str,
    unit: &'a str,
    baseline_value: Option<f64>,
    candidate_value: Option<f64>,
    baseline_n: Option<usize>,
    candidate_n: Option<usize>,
    ratio: Option<f64>,
    lo: Option<f64>,
    hi: Option<f64>,
    change: &'a str,
    kind: &'a str,
    notes: String,
}

fn csv(versus: &Versus) -> Result<String, String> {
    let row = || Row { baseline: &versus.baseline.run, candidate: &versus.candidate.run, ..Row::default() };
    let lines = versus.cells.iter().map(|line| Row {
        of: line.cell.clone(),
        metric: line.metric,
        unit: line.unit,
        baseline_value: line.baseline,
        candidate_value: line.candidate,
        baseline_n: Some(line.baseline_n),
        candidate_n: Some(line.candidate_n),
        ratio: line.ratio.map(|ratio| ratio.value),
        lo: line.ratio.and_then(|ratio| ratio.lo),
        hi: line.ratio.and_then(|ratio| ratio.hi),
        change: line.change.name(),
        kind: line.kind,
        notes: line.notes.join("; "),
        ..row()
    });
    let means = versus.means.iter().map(|mean| Row {
        of: mean.of.clone(),
        metric: "geometric_mean_of_speed",
        unit: "x",
        ratio: mean.ratio.map(|ratio| ratio.value),
        lo: mean.ratio.and_then(|ratio| ratio.lo),
        hi: mean.ratio.and_then(|ratio| ratio.hi),
        change: mean.change.name(),
        kind: "derived",
        notes: over(mean),
        ..row()
    });
    let unpaired = versus.unpaired.iter().map(|cell| Row {
        of: cell.cell.clone(),
        change: Change::Unknown.name(),
        notes: format!("baseline: {}; candidate: {}", cell.baseline, cell.candidate),
        ..row()
    });
    sheet::csv(&HEADER, &lines.chain(means).chain(unpaired).collect::<Vec<_>>())
}

fn over(mean: &Mean) -> String {
    match mean.left_out {
        0 => format!("over {} cells", mean.cells),
        left_out => format!("over {} cells; {left_out} that one run alone measured are left out", mean.cells),
    }
}

fn sheets(versus: &Versus) -> Vec<Sheet> {
    let mut sheets = vec![cells(versus)];
    if !versus.means.is_empty() {
        sheets.push(means(versus));
    }
    if !versus.unpaired.is_empty() {
        let title = format!("Not compared: {} cells", versus.unpaired.len());
        let mut sheet = Sheet::new(title, 3, &["cell", "baseline", "candidate"]);
        let row = |cell: &super::Unpaired| vec![cell.cell.clone(), cell.baseline.clone(), cell.candidate.clone()];
        sheet.rows = versus.unpaired.iter().map(row).collect();
        sheets.push(sheet);
    }
    sheets
}

fn cells(versus: &Versus) -> Sheet {
    let title = format!("{} over {} (the baseline)", told(&versus.candidate), told(&versus.baseline));
    let header = ["cell", "metric", "baseline", "candidate", "n", "ratio", "change", "notes"];
    let mut sheet = Sheet::new(title, 2, &header);
    let mut known = Footnotes::default();
    for line in &versus.cells {
        let row = vec![
            line.cell.clone(),
            name(line),
            value(line, line.baseline),
            value(line, line.candidate),
            format!("{}, {}", line.baseline_n, line.candidate_n),
            line.ratio.map_or(String::new(), |ratio| ratio.ratio()),
            change(line.change).to_owned(),
        ];
        sheet.noted(row, &line.notes, &mut known);
    }
    sheet.tell(&known);
    if versus.cells.is_empty() {
        sheet.notes.push("No cell was measured in both.".to_owned());
    }
    sheet.notes.push(format!(
        "Medians over processes, n of either run; ratios are candidate over baseline: the median of the ratios of each process of \
         one to each of the other, with the exact 95 % interval of rank sums (with too few processes for that, such as three of \
         either, the range of those ratios). The runs were made at different times: times of one machine drift by {} and more \
         from run to run, which no interval knows, so that a time, a speed or joules are called higher or lower only beyond \
         that. `gate --against REV` interleaves both programs and tells less apart.",
        percent(versus.drift)
    ));
    for side in [&versus.baseline, &versus.candidate] {
        sheet.notes.extend(side.warnings.iter().map(|warning| format!("{}: {warning}", side.run)));
    }
    sheet
}

fn means(versus: &Versus) -> Sheet {
    let header = ["geometric mean of speed", "n", "ratio", "change", "cells", "left out"];
    let mut sheet = Sheet::new("Over cells that both measured", 1, &header);
    for mean in &versus.means {
        sheet.rows.push(vec![
            mean.of.clone(),
            mean.ratio.map_or(String::new(), |ratio| ratio.n.to_string()),
            mean.ratio.map_or("no block holds all".to_owned(), |ratio| ratio.ratio()),
            change(mean.change).to_owned(),
            mean.cells.to_string(),
            mean.left_out.to_string(),
        ]);
    }
    sheet.notes.push("n: blocks of the run with fewer that hold all of the cells.".to_owned());
    sheet
}

/// Run, revision and beginning.
fn told(side: &Side) -> String {
    let revision = side.revision.as_ref().map_or("revision unknown".to_owned(), |r| short_revision(r));
    format!("{} ({revision}, {})", side.run, side.started)
}

/// Twelve digits are enough to find a commit by.
fn short_revision(revision: &str) -> String {
    let (hash, dirty) = revision.strip_suffix("-dirty").map_or((revision, ""), |hash| (hash, "-dirty"));
    format!("{}{dirty}", hash.chars().take(12).collect::<String>())
}

/// The metric; of joules with their kind, as everywhere.
fn name(line: &Line) -> String {
    if line.metric == JOULES { format!("{} ({})", line.metric, line.kind) } else { line.metric.to_owned() }
}

fn value(line: &Line, value: Option<f64>) -> String {
    match (value, line.unit) {
        (None, _) => String::new(),
        (Some(value), "bytes") => bytes(value),
        (Some(value), unit) => format!("{} {unit}", short(value)),
    }
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Higher => "higher",
        Change::Lower => "lower",
        Change::NotToldApart => "",
        Change::Unknown => "?",
    }
}
