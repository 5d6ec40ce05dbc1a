//! `history`: how a figure fared over all runs of a results folder, and where it changed.

use super::{run_folder, say};
use crate::history::{Added, Entry, FILE, Filter, History};
use anyhow::{Context as _, Result};
use reports::trend;
use std::path::{Path, PathBuf};
use suites::cell::Workload;

/// Arguments of `history`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Take these runs in, their folders or names below --out, and show nothing; one that is there already stays as it is
    #[arg(long, num_args = 1.., value_name = "RUN", conflicts_with_all = ["metric", "suite", "model", "engine", "workload", "threads", "kind", "format", "chart"])]
    add: Vec<PathBuf>,
    /// Folder that runs are kept in, and history.sqlite with them
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Metric as in summary.csv, such as joules_per_token
    #[arg(long, default_value = "tokens_per_second")]
    metric: String,
    /// Only this suite
    #[arg(long)]
    suite: Option<String>,
    /// Only this model
    #[arg(long)]
    model: Option<String>,
    /// Only this engine
    #[arg(long)]
    engine: Option<String>,
    /// Only this workload, such as tg128
    #[arg(long)]
    workload: Option<Workload>,
    /// Only this thread count
    #[arg(long)]
    threads: Option<u32>,
    /// Only figures of this kind: measured, modelled or derived
    #[arg(long)]
    kind: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Draw it into this file too, an SVG or, by its ending, a PNG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// How series are printed.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A row a cell, with what changed when
    Table,
    /// The same for a page
    Markdown,
    /// A row a run of every cell
    Csv,
    /// Everything, as one document
    Json,
}

/// Runs `history`: exit 0 with change points too, as they are advice; 1 if a run could not be taken in.
///
/// # Errors
/// No history, or a file that is none; names that no figure has; a chart that can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let path = args.out.join(FILE);
    if !args.add.is_empty() {
        return add(&args.add, &args.out, &path);
    }
    let filter = Filter {
        metric: args.metric.clone(),
        suite: args.suite.clone(),
        model: args.model.clone(),
        engine: args.engine.clone(),
        workload: args.workload.map(|workload| workload.to_string()),
        threads: args.threads,
        kind: args.kind.clone(),
    };
    let (visits, figures) = History::open_existing(&path)?.figures(&filter)?;
    let series = trend::series(&visits, &figures);
    if series.is_empty() {
        eprintln!("{}: no run has such figures", path.display());
    }
    let text = match args.format {
        Format::Table => trend::table(&series),
        Format::Markdown => trend::markdown(&series),
        Format::Csv => trend::csv(&series)?,
        Format::Json => trend::json(&series),
    };
    say(text.trim_end())?;
    if let Some(chart) = &args.chart {
        let left_out = trend::draw(&series, chart)?;
        if left_out > 0 {
            eprintln!("{}: {left_out} panels have no room: choose a --model or --workload", chart.display());
        }
        eprintln!("{}", chart.display());
    }
    Ok(0)
}

/// Takes runs in, each by itself: what is wrong with one keeps no other out.
fn add(runs: &[PathBuf], out: &Path, path: &Path) -> Result<u8> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut history = History::open(path)?;
    let mut failed = 0;
    for folder in runs.iter().map(|run| run_folder(run, out)) {
        match Entry::of(&folder) {
            Ok(entry) => {
                let what = match history.add(&entry)? {
                    Added::New => "added",
                    Added::Known => "already there",
                    Added::Replaced => "added in place of what was there of it",
                };
                say(format!("{}: {what}", entry.visit.name))?;
            }
            Err(error) => {
                eprintln!("{}: left out: {error:#}", folder.display());
                failed = 1;
            }
        }
    }
    Ok(failed)
}
