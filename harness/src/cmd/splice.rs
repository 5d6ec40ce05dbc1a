//! `splice`: tables inside a Markdown file, made from recorded runs and from the code's constants.

use super::say;
use crate::constants;
use anyhow::{Context as _, Result};
use std::path::PathBuf;

/// Arguments of `splice`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing; exit code 1 if a file is not as it would be written
    #[arg(long)]
    check: bool,
}

/// Runs `splice`.
///
/// # Errors
/// Markers that are not understood, runs that do not load (file and line named), a file that can't be written.
pub fn run(args: &Args) -> Result<u8> {
    let mut stale = 0;
    let constants = constants::table();
    for path in &args.files {
        let spliced = reports::splice::splice(path, &constants)?;
        let (shown, blocks) = (path.display(), spliced.blocks);
        let same = spliced.before == spliced.after;
        if same {
            say(format!("{shown}: {blocks} tables, as recorded"))?;
        } else if args.check {
            eprintln!(
                "{shown}: its tables are not those of the runs or of the code: `harness splice {shown}` makes them anew"
            );
            stale = 1;
        } else {
            std::fs::write(path, &spliced.after).with_context(|| format!("{shown}"))?;
            say(format!("{shown}: {blocks} tables, made anew"))?;
        }
    }
    Ok(stale)
}
