//! The program's commands, one file each.

pub mod benches;
pub mod chat;
pub mod claims;
pub mod compare;
pub mod convert;
pub mod count;
pub mod doctor;
pub mod energy;
pub mod eval;
pub mod folder;
pub mod form;
pub mod gate;
pub mod generate;
pub mod history;
pub mod jsonl;
pub mod list;
pub mod logits;
pub mod model;
pub mod perplexity;
pub mod plan;
pub mod rank;
pub mod report;
pub mod roofline;
pub mod score;
pub mod select;
pub mod speak;
pub mod splice;
pub mod suite;
pub mod talk;
pub mod together;
pub mod verify;

use anyhow::Result;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write as _;
use std::path::{Path, PathBuf};

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
    /// Run a suite and write `results/<run>/`
    Suite(suite::Args),
    /// Show the cells of a suite, predicted time and memory, what is N/A and why
    Plan(plan::Args),
    /// List suites, models and engines
    List(list::Args),
    /// Render the report of a recorded run again, or print runs as Markdown, CSV, JSON, LaTeX or as llama-bench does
    Report(report::Args),
    /// How a figure fared over all runs of the results folder, and where it changed
    History(history::Args),
    /// Tables inside a Markdown file, made from recorded runs and from the code's constants
    Splice(splice::Args),
    /// What this machine can measure, what it can't, and what mends it
    Doctor(doctor::Args),
    /// Joules, watts, memory and time of any command; or what the papers' energy model makes of a model
    Energy(energy::Args),
    /// What this machine can do at most: read bandwidth of DRAM and caches, peaks of multiply-adds
    Roofline(roofline::Args),
    /// Continue a prompt with either engine
    Generate(generate::Args),
    /// Talk with a model, turn by turn
    Chat(chat::Args),
    /// Logits after given token ids, as JSON
    Logits(logits::Args),
    /// Log-likelihoods of continuations, as JSON
    Score(score::Args),
    /// Accuracy on a task, with standard errors and a log of every item
    Eval(eval::Args),
    /// What recorded runs answer to the claims of papers: reproduced, exceeded, not reproduced, not testable here
    Claims(claims::Args),
    /// Whether this build, or a recorded run, is slower, bigger, hungrier or less accurate than another
    Gate(Box<gate::Args>),
    /// Two recorded runs cell by cell, as ratios with intervals; or two evaluations of a task, item by item
    Compare(compare::Args),
    /// The engines of recorded runs, ranked at each model, thread count and workload, and over all of them
    Rank(rank::Args),
    /// What `cargo bench` left, as records: time with its interval, bytes and operations a second, by ISA and shape
    Benches(benches::Args),
    /// Perplexity of a model over a text
    Perplexity(perplexity::Args),
    /// Make a model, look into one, convert or check one
    #[command(subcommand)]
    Model(model::Args),
    /// Run one cell: a request on stdin, events on stdout (what `suite` starts for each cell)
    #[command(hide = true)]
    Worker {
        /// End when this process, which started it, does
        #[arg(long)]
        parent: Option<i32>,
        /// Measure a window for each line after the request, which is one line
        #[arg(long)]
        turns: bool,
    },
    /// Run a prompt and some tokens and nothing else (what `gate` counts instructions of)
    #[command(hide = true)]
    Count(count::Args),
    /// Become another program (what `suite` starts outside engines by)
    #[command(hide = true)]
    Exec {
        /// End when this process, which started it, does
        #[arg(long)]
        parent: i32,
        /// The program
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Where a run lies: the folder named, or that of the name below `out`.
pub(crate) fn run_folder(run: &Path, out: &Path) -> PathBuf {
    if run.is_dir() { run.to_owned() } else { out.join(run) }
}

/// Prints a line on stdout. A reader that has gone away (`| head`) is no error: what else the command does is still done.
pub(crate) fn say(text: impl Display) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
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
        Command::History(args) => history::run(args),
        Command::Splice(args) => splice::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Energy(args) => energy::run(args),
        Command::Roofline(args) => roofline::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Score(args) => score::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Claims(args) => claims::run(args),
        Command::Gate(args) => gate::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Rank(args) => rank::run(args),
        Command::Benches(args) => benches::run(args),
        Command::Perplexity(args) => perplexity::run(args),
        Command::Model(args) => model::run(args),
        Command::Worker { parent, turns } => crate::worker::main(*parent, *turns),
        Command::Count(args) => count::run(args),
        Command::Exec { parent, program, arguments } => crate::parent::exec(*parent, program, arguments),
    }
}
