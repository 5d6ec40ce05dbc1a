//! `compare`: two evaluations of the same task, item by item.

use super::say;
use crate::error::Error;
use anyhow::{Result, bail};
use reports::accuracy::{Paired, paired};
use reports::items::{self, Items};
use std::path::{Path, PathBuf};
use suites::eval::{Header, Row};
use suites::task::Metric;

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Args {
    /// The log of the first, as `eval` or a suite wrote it
    first: PathBuf,
    /// The log of the second
    second: PathBuf,
}

/// Runs `compare`: the share right of both, the difference with its interval, McNemar's exact test.
///
/// # Errors
/// Files that are no logs; logs of different tasks, data or prompts: which field differs is named.
pub fn run(args: &Args) -> Result<u8> {
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
