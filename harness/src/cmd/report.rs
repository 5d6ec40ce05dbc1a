//! `report`: render recorded runs again, and what became of their cells from one to the next.

use super::say;
use anyhow::Result;
use std::path::PathBuf;

/// Arguments of `report`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The run: its folder, or its name below --out; several of one suite: their history too
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Folder for the history of several runs (default: that of the first)
    #[arg(long)]
    to: Option<PathBuf>,
}

/// Runs `report`.
///
/// # Errors
/// A folder that holds no run, or can't be written; runs of different suites.
pub fn run(args: &Args) -> Result<u8> {
    let folder = |run: &PathBuf| if run.is_dir() { run.clone() } else { args.out.join(run) };
    let folders: Vec<PathBuf> = args.run.iter().map(folder).collect();
    let mut runs = Vec::new();
    for folder in &folders {
        let data = reports::load(folder)?;
        reports::render(folder)?;
        say(reports::table(&data))?;
        say(folder.join("report.md").display())?;
        runs.push(data);
    }
    if runs.len() > 1 {
        let to = args.to.as_ref().or(folders.first()).cloned().unwrap_or_default();
        for written in reports::history(&runs, &to)? {
            say(written.display())?;
        }
    }
    Ok(0)
}
