//! `report`: render recorded runs again, as one HTML page, or print them for other programs; of several, what became of their cells.

use super::{run_folder, say};
use crate::error::Error;
use anyhow::{Result, bail};
use reports::claims;
use reports::formats::Format;
use reports::paper::{Selection, Threads};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use suites::cell::Workload;
use suites::claim;

/// Arguments of `report`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The runs: their folders, or their names below --out; several of one suite: their history too
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Write one HTML page that needs nothing beside it, and nothing else; of two runs, held against each other
    #[arg(long, conflicts_with = "format")]
    html: bool,
    /// Where the page goes (a file; without it `report.html` in the first run's folder), or the history of several runs (a folder)
    #[arg(long)]
    to: Option<PathBuf>,
    /// `table` writes each run's report anew and prints its table; any other only prints, to stdout alone
    #[arg(long, value_enum, default_value = "table")]
    format: Kind,
    /// LaTeX: a whole document rather than tables to be included in one
    #[arg(long)]
    standalone: bool,
    /// Workloads of markdown, json and latex, such as `tg128,pp512`
    #[arg(long, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Thread counts of markdown, json and latex, such as `best,2`
    #[arg(long, value_delimiter = ',')]
    threads: Vec<Threads>,
    /// Models of markdown, json and latex
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Engines of markdown, json and latex, outside ones too
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
}

/// How a run is printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Models down, engines across; the run's files are written anew
    Table,
    /// Sizes across, engines down, with speed-ups, intervals and joules
    Markdown,
    /// Every metric of every cell, as in summary.csv
    Csv,
    /// The tables of markdown as one JSON document
    Json,
    /// The tables of markdown for LaTeX, with the package booktabs
    Latex,
    /// As `llama-bench -o json`
    LlamaBenchJson,
    /// As `llama-bench -o jsonl`
    LlamaBenchJsonl,
    /// As `llama-bench -o sql`, for sqlite3
    LlamaBenchSql,
    /// As `llama-bench -o md`
    LlamaBenchMd,
}

impl Kind {
    /// The format of what is only printed.
    fn format(self, standalone: bool) -> Option<Format> {
        Some(match self {
            Kind::Table => return None,
            Kind::Markdown => Format::Markdown,
            Kind::Csv => Format::Csv,
            Kind::Json => Format::Json,
            Kind::Latex => Format::Latex { standalone },
            Kind::LlamaBenchJson => Format::LlamaBenchJson,
            Kind::LlamaBenchJsonl => Format::LlamaBenchJsonl,
            Kind::LlamaBenchSql => Format::LlamaBenchSql,
            Kind::LlamaBenchMd => Format::LlamaBenchMd,
        })
    }
}

/// Runs `report`.
///
/// # Errors
/// A folder that holds no run, or can't be written; a history of runs of different suites.
pub fn run(args: &Args) -> Result<u8> {
    let folders: Vec<PathBuf> = args.runs.iter().map(|run| run_folder(run, &args.out)).collect();
    if args.html {
        return page(&folders, args.to.as_deref());
    }
    match args.format.format(args.standalone) {
        Some(format) => print(args, &folders, format),
        None => render(&folders, args.to.as_deref()),
    }
}

/// One page of a run, or of two.
fn page(folders: &[PathBuf], to: Option<&Path>) -> Result<u8> {
    let written = match folders {
        [one] => {
            let data = [reports::load(one)?];
            let benches = claims::answer(&claim::embedded()?, &data, &BTreeMap::new());
            let section = benches.first().map(claims::section);
            reports::html::render_run(&data[0], one, section.as_ref(), to)?
        }
        [one, other] => reports::html::render_pair(one, other, to)?,
        _ => bail!(Error::Usage(format!("--html: expected one run or two, found {}", folders.len()))),
    };
    say(written.display())?;
    Ok(0)
}

/// Each run's files anew, its table, and the history of several.
fn render(folders: &[PathBuf], to: Option<&Path>) -> Result<u8> {
    let mut runs = Vec::new();
    for folder in folders {
        let data = reports::load(folder)?;
        reports::render(folder)?;
        say(reports::table(&data))?;
        say(folder.join("report.md").display())?;
        runs.push(data);
    }
    if let [first, _, ..] = folders {
        for written in reports::history(&runs, to.unwrap_or(first))? {
            say(written.display())?;
        }
    }
    Ok(0)
}

/// Runs for other programs, on stdout alone.
fn print(args: &Args, folders: &[PathBuf], format: Format) -> Result<u8> {
    let runs = folders.iter().map(|folder| reports::load(folder)).collect::<Result<Vec<_>, _>>()?;
    for note in runs.iter().flat_map(|run| run.notes.iter().map(move |note| format!("{}: {note}", run.run.name))) {
        eprintln!("{note}");
    }
    let selection = Selection {
        workloads: args.workload.clone(),
        threads: args.threads.clone(),
        models: args.models.clone(),
        engines: args.engines.clone(),
    };
    let printed = reports::formats::print(&runs, format, &selection)?;
    for note in printed.notes {
        eprintln!("{note}");
    }
    say(printed.text.trim_end())?;
    Ok(0)
}
