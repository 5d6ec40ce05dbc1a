//! The page of one run.

use super::figures::{self, Table, Text};
use super::picture::{Picture, picture};
use super::{ClaimRow, ClaimsSection, Part, RUN, fill, line};
use crate::analysis::Analysis;
use crate::cells::{Kind, Status};
use crate::load::RunData;
use crate::plot::charts;
use crate::sections::{self, CHECK_COLUMNS};
use crate::text::short;
use crate::{depth, energy, tasks};
use serde::Serialize;
use suites::record::Record;

/// From here on time stolen by the hypervisor is told: a hundredth of the timed windows.
const STOLEN: f64 = 0.01;

/// What the template fills in.
#[derive(Serialize)]
struct Page {
    name: String,
    suite: String,
    counts: String,
    command: String,
    warnings: Vec<String>,
    glance: Vec<(&'static str, String)>,
    claims: Option<ClaimsSection>,
    pictures: Vec<Picture>,
    cells: Table,
    metrics: Vec<Table>,
    choices: Choices,
    depth: Option<Table>,
    depth_note: &'static str,
    doubts: Vec<String>,
    facts: Vec<(&'static str, String)>,
    checks: Vec<String>,
    checked: Option<Table>,
    how_to_read: Vec<Vec<(&'static str, String)>>,
}

/// What the tables can be filtered by.
#[derive(Serialize)]
pub(super) struct Choices {
    pub(super) statuses: Vec<&'static str>,
    pub(super) engines: Vec<String>,
    pub(super) models: Vec<String>,
}

/// The text of the page.
pub(super) fn page(data: &RunData, claims: Option<&ClaimsSection>) -> Result<String, String> {
    let analysis = Analysis::new(data);
    let pictures: Result<Vec<Picture>, String> =
        charts::all(data, &analysis).into_iter().map(|(plot, chart)| picture(plot, chart)).collect();
    let checks = sections::tally(data);
    let page = Page {
        name: line(&data.run.name),
        suite: line(&data.run.suite),
        counts: sections::counts(data, &analysis),
        command: line(&sections::command(data)),
        warnings: alerts(data, &analysis),
        glance: glance(data),
        claims: claims.map(harmless),
        pictures: pictures?,
        cells: figures::cells(&analysis),
        metrics: figures::metrics(&analysis),
        choices: choices(&analysis),
        depth: depth(data, &analysis),
        depth_note: depth::NOTE,
        doubts: energy::doubts(data).iter().chain(&tasks_note(data)).map(|text| line(text)).collect(),
        facts: provenance(data),
        checks: checks.text.split("\n\n").map(str::to_owned).collect(),
        checked: checked(&checks.rows),
        how_to_read: how_to_read(),
    };
    let mut parts = vec![Part { id: "claims", title: "Claims" }, Part { id: "charts", title: "Charts" }];
    parts.push(Part { id: "figures", title: "All figures" });
    parts.push(Part { id: "checks", title: "Answer checks" });
    parts.push(Part { id: "machine", title: "Machine and provenance" });
    parts.push(Part { id: "reading", title: "How to read this" });
    parts.retain(|part| part.id != "charts" || !page.pictures.is_empty());
    fill(RUN, &format!("Run {}", page.name), &parts, &page)
}

/// Claims without control characters.
fn harmless(section: &ClaimsSection) -> ClaimsSection {
    let row = |row: &ClaimRow| ClaimRow {
        claim: line(&row.claim),
        published: line(&row.published),
        verdict: line(&row.verdict),
        ours: row.ours.as_deref().map(line),
        n: row.n,
        differs: line(&row.differs),
        source: line(&row.source),
    };
    ClaimsSection { note: line(&section.note), rows: section.rows.iter().map(row).collect() }
}

fn tasks_note(data: &RunData) -> Vec<String> {
    match tasks::names(data).len() {
        0 => Vec::new(),
        n => vec![format!("Accuracy was measured on {n} tasks; the items behind each figure are in items/.")],
    }
}

/// What a reader must know first: all that the Markdown page warns of, and what concerns figures of this page.
pub(super) fn alerts(data: &RunData, analysis: &Analysis) -> Vec<String> {
    let mut all = sections::warnings(data);
    let profile = data.run.build.profile.as_str();
    if !matches!(profile, "dev" | "release") && !all.iter().any(|w| w.contains("debug build")) {
        all.push(format!(
            "built with the profile {profile}: neither dev nor release, which are known to measure alike"
        ));
    }
    let unchecked = data.records.iter().filter(|r| r.outside().is_some()).count();
    if unchecked > 0 {
        all.push(format!("of {unchecked} processes of outside programs no answer was checked"));
    }
    let joules = |c: &&crate::cells::CellSummary| {
        c.metrics.iter().any(|m| m.unit.starts_with('J') && m.kind == Kind::Modelled && m.figure.is_ok())
    };
    let modelled = analysis.cells.iter().filter(joules).count();
    if modelled > 0 {
        all.push(format!("joules of {modelled} cells are modelled, not measured; each says so"));
    }
    all.extend(stolen(data));
    let failed = analysis.cells.iter().filter(|c| c.status == Status::Failed).count();
    if failed > 0 {
        all.push(format!("{failed} cells failed: the table of cells says why"));
    }
    all.iter().map(|warning| line(warning)).collect()
}

/// Processes whose CPUs worked for others.
fn stolen(data: &RunData) -> Option<String> {
    let mut lost = (0usize, 0.0f64);
    let measurements: Vec<_> = data.records.iter().filter_map(Record::measurement).collect();
    for measurement in &measurements {
        let window: f64 = measurement.samples.iter().map(|s| s.duration_ns as f64).sum();
        let steal = measurement.interference.steal_ns.unwrap_or(0) as f64;
        if steal > STOLEN * window {
            lost = (lost.0 + 1, lost.1 + steal / 1e9);
        }
    }
    (lost.0 > 0).then(|| {
        format!(
            "the hypervisor took CPU time from {} of {} processes, over a hundredth of their timed windows each, {} s \
             in all",
            lost.0,
            measurements.len(),
            short(lost.1)
        )
    })
}

/// Facts that stand at the top, of those below.
fn glance(data: &RunData) -> Vec<(&'static str, String)> {
    let wanted = ["CPU", "memory", "program", "profile", "started"];
    let facts = sections::facts(data).into_iter().filter(|(name, _)| wanted.contains(name));
    facts.map(|(name, value)| (name, line(&value))).collect()
}

/// All facts, with what the Markdown page leaves to `run.json`.
pub(super) fn provenance(data: &RunData) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&'static str, String)> =
        sections::facts(data).into_iter().map(|(name, value)| (name, line(&value))).collect();
    facts.push(("schema", data.run.schema.to_string()));
    facts.extend(data.run.models.iter().map(|m| ("model", line(&format!("{} {}", m.name, m.digest)))));
    let outside = data.run.outside.iter();
    facts.extend(
        outside.map(|o| ("outside engine", line(&format!("{}: {} {}", o.name, o.program.name, o.program.digest)))),
    );
    facts
}

pub(super) fn choices(analysis: &Analysis) -> Choices {
    let mut statuses: Vec<&'static str> = Vec::new();
    for cell in &analysis.cells {
        let status = figures::status(cell.status);
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    Choices {
        statuses,
        engines: analysis.engines.iter().map(|e| line(&analysis.shown(e))).collect(),
        models: analysis.models.iter().map(|m| line(&m.name)).collect(),
    }
}

fn depth(data: &RunData, analysis: &Analysis) -> Option<Table> {
    let caption = "What a deep cache costs a token";
    table(("depth", caption), depth::COLUMNS, &depth::FIGURES, &depth::rows(data, analysis))
}

fn checked(rows: &[[String; 4]]) -> Option<Table> {
    table(("checks-table", "Answers compared"), CHECK_COLUMNS, &[1, 2, 3], rows)
}

/// A table of texts, if it has rows; `figures` are the columns that hold figures, with their interval in small print.
fn table<const N: usize>(
    (id, caption): (&'static str, &str),
    titles: [&str; N],
    figures: &[usize],
    rows: &[[String; N]],
) -> Option<Table> {
    let text = |(index, cell): (usize, &String)| match cell.split_once(" [").filter(|_| figures.contains(&index)) {
        Some((main, interval)) => {
            // A sign stands after both: it goes with the figure.
            let (inside, sign) = interval.split_once(']').unwrap_or((interval, ""));
            Text { main: line(&format!("{main}{sign}")), small: line(&format!("[{inside}]")), look: "" }
        }
        None => Text::plain(line(cell)),
    };
    let row = |cells: &[String; N]| figures::Row { status: "", cells: cells.iter().enumerate().map(text).collect() };
    let column = |(index, title): (usize, &&str)| figures::Column {
        title: (*title).to_owned(),
        number: figures.contains(&index),
    };
    (!rows.is_empty()).then(|| Table {
        id,
        caption: caption.to_owned(),
        columns: titles.iter().enumerate().map(column).collect(),
        rows: rows.iter().map(row).collect(),
        notes: Vec::new(),
    })
}

/// The Markdown page's last section, as items of plain, strong and code parts.
fn how_to_read() -> Vec<Vec<(&'static str, String)>> {
    let text = sections::HOW_TO_READ.replace("\n  ", " ");
    let items = text.lines().filter_map(|item| item.strip_prefix("- "));
    items.map(marked).collect()
}

fn marked(item: &str) -> Vec<(&'static str, String)> {
    let mut parts = Vec::new();
    for (index, strong) in item.split("**").enumerate() {
        if index % 2 == 1 {
            parts.push(("strong", strong.to_owned()));
            continue;
        }
        let code = strong.split('`').enumerate();
        parts.extend(code.map(|(i, text)| (if i % 2 == 1 { "code" } else { "" }, text.to_owned())));
    }
    parts.retain(|(_, text)| !text.is_empty());
    parts
}
