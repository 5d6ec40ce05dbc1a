//! `claims`: what recorded runs answer to the claims of papers.

use super::{run_folder, say};
use crate::error::Error;
use anyhow::{Result, bail};
use clap::ValueEnum;
use reports::claims::{self, Bench, Format, Verdict};
use std::collections::BTreeMap;
use std::path::PathBuf;
use suites::claim::{self, Claim};
use suites::published::Published;

/// Arguments of `claims`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The runs: folders, or names below --out; those of one machine and build answer together
    #[arg(required = true)]
    run: Vec<PathBuf>,
    /// Folder that runs are kept in
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// How to print the answers
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// LaTeX: a whole document rather than tables to be included in one
    #[arg(long)]
    standalone: bool,
    /// These claims alone
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A file of claims instead of the program's own
    #[arg(long)]
    claims: Option<PathBuf>,
    /// A claim's model by its name in these runs, as CLAIMED=OURS
    #[arg(long, value_parser = pair)]
    called: Vec<(String, String)>,
    /// The engine that stands for the papers' ternary ones [default: ternary]
    #[arg(long)]
    candidate: Option<String>,
    /// The engine that stands for the papers' baselines [default: f16]
    #[arg(long)]
    baseline: Option<String>,
    /// Exit 1 if a claim is not reproduced, or only partly, and 2 if none could be judged
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Table,
    Markdown,
    /// The tables of markdown for LaTeX, with the packages booktabs and longtable
    Latex,
    Csv,
    Json,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (claimed, ours) = text.split_once('=').ok_or("expected CLAIMED=OURS")?;
    Ok((claimed.to_owned(), ours.to_owned()))
}

/// Runs `claims`.
///
/// # Errors
/// Folders that hold no run, a file of claims that can't be used, names of claims that are not there.
pub fn run(args: &Args) -> Result<u8> {
    let claims = chosen(args)?;
    let runs = args.run.iter().map(|run| reports::load(&run_folder(run, &args.out))).collect::<Result<Vec<_>, _>>()?;
    let called: BTreeMap<String, String> = args.called.iter().cloned().collect();
    let benches = claims::answer(&claims, &runs, &called);
    let format = match args.format {
        Form::Table => Format::Table,
        Form::Markdown => Format::Markdown,
        Form::Latex => Format::Latex { standalone: args.standalone },
        Form::Csv => Format::Csv,
        Form::Json => Format::Json,
    };
    let text = claims::show(&benches, format).map_err(anyhow::Error::msg)?;
    say(text.trim_end())?;
    Ok(if args.strict { strict(&benches) } else { 0 })
}

fn chosen(args: &Args) -> Result<Vec<Claim>> {
    let mut claims = match &args.claims {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::Input(format!("{}: {e}", path.display())))?;
            claim::parse(&text, &path.display().to_string(), &Published::embedded()?)?
        }
        None => claim::embedded()?,
    };
    for name in &args.only {
        if !claims.iter().any(|claim| claim.id == *name) {
            bail!(suites::Error::unknown("claim", name, claims.iter().map(|claim| claim.id.as_str())));
        }
    }
    claims.retain(|claim| args.only.is_empty() || args.only.contains(&claim.id));
    for claim in &mut claims {
        // Where a claim has another candidate or baseline than usual, the claim is about that one.
        if let Some(engine) = args.candidate.as_ref().filter(|_| claim.candidate == "ternary") {
            claim.candidate.clone_from(engine);
        }
        if let Some(engine) = args.baseline.as_ref().filter(|_| claim.baseline == "f16") {
            claim.baseline.clone_from(engine);
        }
    }
    Ok(claims)
}

/// 1 where a claim about a machine fails, in whole or in part; 2 where none could be judged; else 0.
fn strict(benches: &[Bench]) -> u8 {
    let verdicts = || {
        let answers = benches.iter().flat_map(|bench| &bench.answers);
        answers.filter(|answer| !answer.claim.metric.analytic()).map(|answer| answer.verdict)
    };
    if verdicts().any(|verdict| matches!(verdict, Verdict::NotReproduced | Verdict::Partly)) {
        1
    } else if verdicts().any(Verdict::holds) {
        0
    } else {
        2
    }
}
