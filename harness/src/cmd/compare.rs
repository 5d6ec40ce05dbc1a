//! `compare`: two recorded runs cell by cell, or two evaluations of the same task item by item.

use super::form::Form;
use super::{run_folder, say};
use crate::error::Error;
use anyhow::{Result, bail};
use reports::accuracy::{Paired, paired};
use reports::items::{self, Items};
use reports::versus;
use std::path::{Path, PathBuf};
use suites::eval::{Header, Row};
use suites::gate::Gates;
use suites::task::Metric;

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Args {
    /// The baseline: a run's folder or its name below --out; or a log of items, as `eval` or a suite wrote it
    first: PathBuf,
    /// The candidate, of the same kind
    second: PathBuf,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// How two runs are printed
    #[arg(long, value_enum)]
    format: Option<Form>,
}

/// Runs `compare`. Of two runs: ratios of speed, memory, loading and joules of the cells that both measured, with intervals. Of
/// two logs: the share right of both, the difference with its interval, McNemar's exact test.
///
/// # Errors
/// Files that are neither; one of each kind; runs or logs that can't be compared: which field differs is named.
pub fn run(args: &Args) -> Result<u8> {
    let folders = [&args.first, &args.second].map(|path| run_folder(path, &args.out));
    match (&folders, args.first.is_file(), args.second.is_file()) {
        (_, true, true) => logs(args),
        (folders, false, false) => runs(folders, args.format.unwrap_or(Form::Table)),
        (folders, first, _) => {
            let [log, other] = if first { [&args.first, &args.second] } else { [&args.second, &args.first] };
            let (log, found) = (log.display(), other.display());
            if !folders[usize::from(first)].is_dir() {
                bail!(Error::Input(format!("{found}: expected a log of items, as {log} is one, found nothing")));
            }
            bail!(Error::Usage(format!(
                "expected two runs or two logs of items, found the log {log} and the run {found}"
            )))
        }
    }
}

/// Two runs, which were made at different times: what a machine drifts by from one to the next is that of the gates.
fn runs(folders: &[PathBuf; 2], format: Form) -> Result<u8> {
    let [baseline, candidate] = [reports::load(&folders[0])?, reports::load(&folders[1])?];
    for run in [&baseline, &candidate] {
        run.notes.iter().for_each(|note| eprintln!("{}: {note}", run.run.name));
    }
    let found = versus::compare(&baseline, &candidate, Gates::embedded()?.rule.drift)?;
    say(versus::show(&found, format.into()).map_err(anyhow::Error::msg)?.trim_end())?;
    if found.cells.is_empty() {
        eprintln!("could not compare: no cell was measured in both");
        return Ok(2);
    }
    Ok(0)
}

fn logs(args: &Args) -> Result<u8> {
    if args.format.is_some() {
        bail!(Error::Usage("--format: expected two runs; logs of items are told in lines".to_owned()));
    }
    let [first, second] = [load(&args.first)?, load(&args.second)?];
    comparable(&first.header, &second.header)?;
    for (index, row) in &first.rows {
        if let Some(other) = second.rows.get(index).filter(|other| other.prompt != row.prompt) {
            let (found, expected) = (&other.prompt, &row.prompt);
            bail!(Error::Usage(format!("item {index}: the prompts differ: {expected} and {found}")));
        }
    }
    let name = |items: &Items| format!("{} on {}", items.header.engine, items.header.model);
    let names = [name(&first), name(&second)];
    let rows = [first, second].map(|items| (items.header.metrics, items.rows.into_values().collect::<Vec<Row>>()));
    let found = lines(&rows[0].0, [&names[0], &names[1]], [&rows[0].1, &rows[1].1]);
    if found.is_empty() {
        bail!(Error::Usage("no figure is right or wrong by item in both: there is nothing to compare".to_owned()));
    }
    found.iter().try_for_each(say)?;
    Ok(0)
}

fn load(path: &Path) -> Result<Items> {
    match items::load(path)? {
        Some(items) => Ok(items),
        None => bail!(Error::Input(format!("{}: expected a log of `eval`, found nothing", path.display()))),
    }
}

fn comparable(first: &Header, second: &Header) -> Result<()> {
    let differs = |field: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| {
        Error::Usage(format!("the logs cannot be compared: {field}: {a:?} and {b:?}"))
    };
    if first.task != second.task || first.task_digest != second.task_digest {
        bail!(differs("task", &(&first.task, &first.task_digest), &(&second.task, &second.task_digest)));
    }
    if first.data_digests != second.data_digests {
        bail!(differs("data_digests", &first.data_digests, &second.data_digests));
    }
    if first.fewshot != second.fewshot {
        bail!(differs("fewshot", &first.fewshot, &second.fewshot));
    }
    Ok(())
}

/// A line a figure that is right or wrong by item.
pub(super) fn lines(metrics: &[Metric], names: [&str; 2], rows: [&[Row]; 2]) -> Vec<String> {
    let [first, second] = rows.map(|rows| rows.iter().collect::<Vec<&Row>>());
    let found = metrics.iter().filter_map(|&metric| paired(metric, &first, &second));
    found.map(|found| told(&found, names)).collect()
}

fn told(found: &Paired, [first, second]: [&str; 2]) -> String {
    let Paired { metric, n, values, difference: (difference, (low, high)), discordant: (b, c), p } = found;
    format!(
        "{}: {first} {:.4}, {second} {:.4}; difference {difference:+.4} [{low:+.4}, {high:+.4}] over {n} items; \
         {b} right by {first} alone, {c} by {second} alone: McNemar's exact p = {p:.4}",
        metric.name(),
        values.0,
        values.1
    )
}
