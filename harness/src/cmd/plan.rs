//! `plan`: the cells of a suite on this machine, and what they will take.

use super::say;
use super::select::{self, Select};
use crate::{plan, progress};
use anyhow::Result;
use std::fmt::Write as _;
use std::time::Duration;
use suites::run::Plan;
use suites::{Catalogue, Suite};

/// Arguments of `plan`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of a suite, or a TOML file
    suite: String,
    #[command(flatten)]
    select: Select,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Output formats.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For reading
    Table,
    /// As in plan.json
    Json,
    /// One row a cell
    Csv,
}

/// Runs `plan`.
///
/// # Errors
/// Bad names and bad files.
pub fn run(args: &Args) -> Result<u8> {
    let catalogue = Catalogue::embedded()?;
    let suite = select::suite(&args.suite, &catalogue)?;
    let host = args.select.host(&suite, &catalogue, crate::local::isas())?;
    let plan = plan::make(&suite, &catalogue, &args.select.filter(), &host)?;
    match args.format {
        Format::Table => say(table(&suite, &plan, suite.budget).trim_end())?,
        Format::Json => say(serde_json::to_string_pretty(&plan)?)?,
        Format::Csv => say(csv(&plan).trim_end())?,
    }
    Ok(0)
}

/// The plan as a table, to be run within `budget`.
pub fn table(suite: &Suite, plan: &Plan, budget: Option<Duration>) -> String {
    let width = plan.cells.iter().map(|c| c.cell.id().len()).max().unwrap_or(0).max(4);
    let mut text = format!("{}: {}\n\n{:width$}  blocks  memory  time\n", suite.name, suite.about, "cell");
    for c in &plan.cells {
        let (memory, time) = (c.predicted_bytes as f64 / 1e9, short(c.predicted_ns));
        let end = c.na.as_ref().map_or(time, |reason| format!("N/A: {reason}"));
        let _ = writeln!(text, "{:width$}  {:6}  {memory:3.1} GB  {end}", c.cell.id(), c.blocks);
    }
    let na = plan.cells.iter().filter(|c| c.na.is_some()).count();
    let total: u64 = plan.steps.iter().map(|s| plan.cells[s.cell as usize].predicted_ns).sum();
    let budget = budget.map_or(String::new(), |b| format!(", budget {}", progress::short(b)));
    let _ = writeln!(
        text,
        "\n{} cells, {na} of them N/A; {} steps, at most about {}{budget} (reference answers not counted)",
        plan.cells.len(),
        plan.steps.len(),
        short(total),
    );
    text
}

fn short(ns: u64) -> String {
    progress::short(Duration::from_nanos(ns))
}

fn csv(plan: &Plan) -> String {
    let mut text = "cell,engine,model,threads,workload,blocks,predicted_bytes,predicted_ns,na\n".to_owned();
    for c in &plan.cells {
        // Names hold no commas; a reason may.
        let na = c.na.as_ref().map_or(String::new(), |reason| format!("\"{}\"", reason.replace('"', "\"\"")));
        let (id, cell) = (c.cell.id(), &c.cell);
        let _ = writeln!(
            text,
            "{id},{},{},{},{},{},{},{},{na}",
            cell.engine, cell.model, cell.threads, cell.workload, c.blocks, c.predicted_bytes, c.predicted_ns
        );
    }
    text
}
