//! The program's commands, one file each.

pub mod list;
pub mod plan;
pub mod report;
pub mod select;
pub mod suite;

use anyhow::Result;

/// Measures the project's ternary and fp16 engines side by side.
#[derive(clap::Parser)]
#[command(name = "harness", version, about)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Run a suite and write results/<run>/
    Suite(suite::Args),
    /// Show the cells of a suite, predicted time and memory, what is N/A and why
    Plan(plan::Args),
    /// List suites, models and engines
    List(list::Args),
    /// Render the report of a recorded run again
    Report(report::Args),
}

/// Runs a command; the result is the exit code.
///
/// # Errors
/// Whatever keeps the command from being done; [`crate::error::exit_code`] tells the exit code.
pub fn run(cli: &Cli) -> Result<u8> {
    match &cli.command {
        Command::Suite(args) => suite::run(args),
        Command::Plan(args) => plan::run(args),
        Command::List(args) => list::run(args),
        Command::Report(args) => report::run(args),
    }
}
