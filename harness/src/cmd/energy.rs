//! `energy`: what a command costs, measured; and what the papers' arithmetic makes of a model, which is no measurement.

mod command;
mod model;
pub(crate) mod overhead;
mod tree;

use crate::error::Error;
use anyhow::{Result, bail};

/// Arguments of `energy`.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    override_usage = "harness energy [OPTIONS] -- COMMAND [ARG]...\n       harness energy model [OPTIONS]\n       harness energy overhead [OPTIONS]"
)]
pub struct Args {
    #[command(subcommand)]
    sub: Option<Sub>,
    #[command(flatten)]
    command: command::Args,
}

/// Commands of `energy` beside a command of the user's own.
#[derive(clap::Subcommand)]
enum Sub {
    /// Arithmetic energy of a model (modelled, never measured): additions and multiplications, after arXiv 2310.11453
    Model(model::Args),
    /// What reading energy costs a decode: windows with a meter and without by turns, with an interval
    Overhead(Box<overhead::Args>),
}

/// Runs `energy`: the exit code is the command's own.
///
/// # Errors
/// No command, one that can't be started, or an unknown model.
pub fn run(args: &Args) -> Result<u8> {
    match &args.sub {
        Some(Sub::Model(args)) => model::run(args),
        Some(Sub::Overhead(args)) => overhead::run(args),
        None if args.command.is_empty() => {
            bail!(Error::Usage("name a command: harness energy -- COMMAND [ARG]...".to_owned()))
        }
        None => command::run(&args.command),
    }
}
