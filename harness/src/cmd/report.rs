//! `report`: render a recorded run again, or as one HTML page; two runs side by side.

use super::say;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Arguments of `report`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The run: its folder, or its name below --out; with --html a second one to hold against it
    #[arg(required = true, num_args = 1..=2, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Write one HTML page that needs nothing beside it, and nothing else
    #[arg(long)]
    html: bool,
    /// Where the page goes; without it `report.html` in the first run's folder
    #[arg(long, value_name = "FILE", requires = "html")]
    to: Option<PathBuf>,
}

/// Runs `report`.
///
/// # Errors
/// A folder that holds no run, or can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let folder = |run: &Path| if run.is_dir() { run.to_owned() } else { args.out.join(run) };
    let to = args.to.as_deref();
    let written = match args.runs.as_slice() {
        [one, other] if args.html => reports::html::render_pair(&folder(one), &folder(other), to)?,
        [_, other] => bail!("{}: two runs are held against each other with --html alone", other.display()),
        [one, ..] if args.html => reports::html::render_run(&folder(one), None, to)?,
        [one, ..] => {
            let data = reports::load(&folder(one))?;
            reports::render(&folder(one))?;
            say(reports::table(&data))?;
            folder(one).join("report.md")
        }
        [] => bail!("no run was named"),
    };
    say(written.display())?;
    Ok(0)
}
