//! `rank`: the engines of recorded runs, by speed.

use super::form::Form;
use super::{run_folder, say};
use anyhow::{Result, bail};
use reports::ranking::{apart, rank, show};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Arguments of `rank`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The runs: folders, or names below --out; each is ranked by itself
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// The engine that ratios are over [default: the fastest of each list]
    #[arg(long)]
    baseline: Option<String>,
    /// These engines alone
    #[arg(long, value_delimiter = ',')]
    engines: Vec<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
}

/// Runs `rank`: ratios within each block with intervals, shared ranks where they can't be told apart.
///
/// # Errors
/// Folders that hold no run, engines that no run has.
pub fn run(args: &Args) -> Result<u8> {
    let runs = args.runs.iter().map(|run| reports::load(&run_folder(run, &args.out))).collect::<Result<Vec<_>, _>>()?;
    let known: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.plan.cells).map(|planned| planned.cell.engine.as_str()).collect();
    let own = |name: &&str| args.engines.is_empty() || args.engines.iter().any(|engine| engine == name);
    if let Some(name) = args.engines.iter().find(|name| !known.contains(name.as_str())) {
        bail!(suites::Error::unknown("engine", name, known.iter().copied()));
    }
    let ranked: BTreeSet<&str> = known.iter().copied().filter(own).collect();
    if let Some(name) = args.baseline.as_ref().filter(|name| !ranked.contains(name.as_str())) {
        bail!(suites::Error::unknown("engine", name, ranked.iter().copied()));
    }
    for note in runs.iter().flat_map(|run| run.notes.iter().map(move |note| format!("{}: {note}", run.run.name))) {
        eprintln!("{note}");
    }
    let rankings: Vec<_> = runs.iter().map(|run| rank(run, args.baseline.as_deref(), &args.engines)).collect();
    let text = show(&rankings, &apart(&runs), args.format.into()).map_err(anyhow::Error::msg)?;
    say(text.trim_end())?;
    Ok(0)
}
