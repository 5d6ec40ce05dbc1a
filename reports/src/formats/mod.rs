//! A run for other programs: tables for papers and pages, and what llama-bench's users' scripts read.

mod json;
mod latex;
mod llama_bench;
mod markdown;
mod peers;
pub(crate) mod tex;

use crate::analysis::Analysis;
use crate::cells::{Kind, Status};
use crate::error::Error;
use crate::load::RunData;
use crate::paper::{Entry, Quantity, Row, Selection, Threads};
use crate::stats::Estimate;
use crate::summary;
use crate::text::{Footnotes, short};

pub(crate) use markdown::tables;
pub(crate) use peers::peers;

/// How a run is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Paper-style tables ([`crate::paper`]) as GitHub's Markdown.
    Markdown,
    /// Every metric of every cell: the rows of `summary.csv`.
    Csv,
    /// Paper-style tables as one JSON document.
    Json,
    /// Paper-style tables for LaTeX with the package booktabs; `standalone`: a whole document.
    Latex {
        /// With preamble and end.
        standalone: bool,
    },
    /// What `llama-bench -o json` prints.
    LlamaBenchJson,
    /// What `llama-bench -o jsonl` prints.
    LlamaBenchJsonl,
    /// What `llama-bench -o sql` prints.
    LlamaBenchSql,
    /// What `llama-bench -o md` prints.
    LlamaBenchMd,
}

/// A run printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// For stdout alone.
    pub text: String,
    /// For people: what the text leaves out and why, a line each.
    pub notes: Vec<String>,
}

/// Prints `runs` in `format`. `selection` chooses among the paper-style tables; other formats hold every cell.
///
/// # Errors
/// Rows that CSV can't hold (none are known).
pub fn print(runs: &[RunData], format: Format, selection: &Selection) -> Result<Printed, Error> {
    let mut notes = Vec::new();
    let text = match format {
        Format::Markdown => runs.iter().map(|run| markdown::page(run, selection)).collect(),
        Format::Csv => csv(runs)?,
        Format::Json => json::document(runs, selection),
        Format::Latex { standalone } => latex::document(runs, selection, standalone),
        _ => llama_bench::print(&llama_bench::rows(runs, &mut notes), format),
    };
    Ok(Printed { text, notes })
}

fn csv(runs: &[RunData]) -> Result<String, Error> {
    let mut all = String::new();
    for (index, run) in runs.iter().enumerate() {
        let wrong = |e: String| Error::Write { path: "summary.csv".into(), message: e };
        let rows =
            summary::csv(&Analysis::new(run), &run.run.name, &run.run.suite).map_err(|e| wrong(e.to_string()))?;
        let rows = String::from_utf8(rows).map_err(|e| wrong(e.to_string()))?;
        // One header for all.
        let rows = if index == 0 { rows.as_str() } else { rows.split_once('\n').map_or("", |(_, rows)| rows) };
        all.push_str(rows);
    }
    Ok(all)
}

/// What every table is read by.
const READING: &str = "Medians over processes, with 95 % intervals in brackets; a figure without brackets is of one process. \
    Ratios are formed block by block.";
/// What is added under tables of the best thread count.
const READING_BEST: &str = "Best thread count: the one with the highest median, picked for each engine and model from these very figures \
    and named behind each (t2: 2 threads); a ratio is of the two picked.";
/// What is added under tables with outside engines.
const READING_OUTSIDE: &str = "Answers of outside engines are not checked.";

/// The parts of an entry as tables show them.
struct Parts {
    /// `12.3`, `4.56×`, `N/A`, `FAILED`, or nothing.
    figure: String,
    /// `[11.9, 12.8]`, or nothing.
    interval: String,
    /// What must be said beside it: `t2`, `modelled`, or nothing.
    mark: String,
    /// Number of its footnote.
    footnote: Option<usize>,
}

fn parts(row: &Row, entry: Option<&Entry>, threads: Threads, times: &str, notes: &mut Footnotes) -> Parts {
    let nothing = || Parts { figure: String::new(), interval: String::new(), mark: String::new(), footnote: None };
    let Some(entry) = entry else { return nothing() };
    let footnote = entry.note.as_deref().map(|text| notes.number(text));
    let Some(figure) = entry.figure else {
        let figure = if entry.status == Status::Failed { "FAILED" } else { "N/A" }.to_owned();
        return Parts { figure, footnote, ..nothing() };
    };
    let times = if row.quantity == Quantity::Speedup { times } else { "" };
    let mut marks = Vec::new();
    if threads == Threads::Best && row.quantity != Quantity::Speedup {
        marks.extend(entry.threads.iter().map(|threads| format!("t{threads}")));
    }
    if entry.kind == Kind::Modelled {
        marks.push("modelled".to_owned());
    }
    let Estimate { value, interval, .. } = figure;
    let interval = interval.map_or(String::new(), |(lo, hi)| format!("[{}, {}]", short(lo), short(hi)));
    Parts { figure: format!("{}{times}", short(value)), interval, mark: marks.join(", "), footnote }
}

/// The sentences under the tables of `blocks`.
fn reading(blocks: &[crate::paper::Block]) -> String {
    let mut text = READING.to_owned();
    if blocks.iter().any(|b| b.threads == Threads::Best) {
        text = format!("{text} {READING_BEST}");
    }
    let outside = |row: &Row| row.entries.iter().flatten().any(|e| e.status == Status::Outside);
    if blocks.iter().flat_map(|b| &b.rows).any(outside) {
        text = format!("{text} {READING_OUTSIDE}");
    }
    text
}
