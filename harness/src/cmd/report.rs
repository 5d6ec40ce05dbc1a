//! `report`: render a recorded run again.

use super::say;
use anyhow::Result;
use std::path::PathBuf;

/// Arguments of `report`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The run: its folder, or its name below --out
    run: PathBuf,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
}

/// Runs `report`.
///
/// # Errors
/// A folder that holds no run, or can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let folder = if args.run.is_dir() { args.run.clone() } else { args.out.join(&args.run) };
    let data = reports::load(&folder)?;
    reports::render(&folder)?;
    say(reports::table(&data))?;
    say(folder.join("report.md").display())?;
    Ok(0)
}
