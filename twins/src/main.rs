//! `twins`: makes corpus and tokenizer, trains, exports, evaluates, checks.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use twins::model::{Mode, Shape};
use twins::optimizer::Schedule;
use twins::train::{self, Plan, State};
use twins::{check, evaluate, export, tokens};

/// Trains a ternary model and its fp16 twin
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the held-out items and a sample of the training stream
    Corpus {
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value_t = SEED)]
        seed: u64,
        /// Held-out problems
        #[arg(long, default_value_t = 600)]
        problems: usize,
    },
    /// Trains the tokenizer from the corpus
    Tokenizer {
        #[arg(long)]
        out: PathBuf,
        #[arg(long, default_value_t = SEED)]
        seed: u64,
    },
    /// Trains one twin; goes on from a checkpoint
    Train(Train),
    /// Writes a trained twin as a Hugging Face folder
    Export {
        /// Folder of a training
        #[arg(long)]
        from: PathBuf,
        #[arg(long)]
        out: PathBuf,
    },
    /// Accuracy on held-out items
    Eval {
        /// Folder of a training
        #[arg(long)]
        from: PathBuf,
        /// Items of each kind
        #[arg(long, default_value_t = 100)]
        items: usize,
    },
    /// Draws loss curves into one picture
    Plot {
        /// A curve: its name and its loss.csv
        #[arg(long, value_name = "NAME=FILE", required = true)]
        curve: Vec<String>,
        /// The picture, without .svg and .png
        #[arg(long)]
        out: PathBuf,
    },
    /// Holds the engine's logits of an exported folder against the trainer's
    Check {
        /// Folder of the training
        #[arg(long)]
        from: PathBuf,
        /// The exported folder
        #[arg(long)]
        model: PathBuf,
    },
}

/// The committed seed.
const SEED: u64 = 20_261_126;

#[derive(clap::Args)]
struct Train {
    #[arg(long)]
    mode: Mode,
    /// Steps of the whole schedule
    #[arg(long, default_value_t = 4000)]
    steps: usize,
    /// Stop after this step, to go on later
    #[arg(long)]
    until: Option<usize>,
    #[arg(long)]
    out: PathBuf,
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Move the first weights in their last bits, by this seed, as another machine's rounding would
    #[arg(long)]
    nudge: Option<u64>,
    /// Rows of 256 tokens a batch
    #[arg(long, default_value_t = 8)]
    rows: usize,
    #[arg(long, default_value_t = 4)]
    layers: usize,
    /// Highest learning rate
    #[arg(long, default_value_t = 2e-3)]
    rate: f64,
    #[arg(long, default_value_t = 20)]
    log_every: usize,
    #[arg(long, default_value_t = 200)]
    save_every: usize,
}

impl Train {
    fn run(&self) -> Result<()> {
        let plan = Plan {
            mode: self.mode,
            shape: Shape { layers: self.layers, ..Shape::default() },
            schedule: Schedule::new(self.steps, self.rate),
            rows: self.rows,
            seed: self.seed,
            nudge: self.nudge,
            log_every: self.log_every,
            save_every: self.save_every,
        };
        train::run(&plan, &self.out, self.until.unwrap_or(self.steps)).map(drop)
    }
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Corpus { out, seed, problems } => twins::corpus::write(&out, seed, problems),
        Command::Tokenizer { out, seed } => tokens::save(&tokens::train(seed)?, &out),
        Command::Train(train) => train.run(),
        Command::Export { from, out } => {
            let (plan, state) = State::load(&from)?;
            export::write(&plan, &state, &from, &out)
        }
        Command::Eval { from, items } => {
            let (plan, state) = State::load(&from)?;
            println!("{}", evaluate::run(&plan, &state.model, &tokens::load(&from)?, items)?);
            Ok(())
        }
        Command::Plot { curve, out } => {
            let curves = curve.iter().map(|text| train::curve(text)).collect::<Result<Vec<_>>>()?;
            let title = "Training loss of the twins, mean of twenty steps";
            reports::curves::draw(title, ["step", "loss, nats a token"], &curves, &out)?;
            Ok(())
        }
        Command::Check { from, model } => check::run(&State::load(&from)?.1.model, &model),
    }
}
