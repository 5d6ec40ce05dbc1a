//! The engine's logits of an exported folder against the trainer's own.
//!
//! The engine is reached as any outsider reaches it: by the `logits` command of the harness.

use crate::evaluate::logits;
use crate::model::{Mode, Model};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// What `harness logits --all` prints, as far as it is used.
#[derive(Deserialize)]
struct Output {
    logits: Vec<Vec<f32>>,
}

/// Largest relative rms difference of the fp16 twin: linear layers and embedding are rounded to f16, 11 bits.
const FP16: f64 = 1e-3;
/// Of the ternary one, whose weights are exact: the f16 embedding and another order of sums move an activation across a
/// rounding border of its int8 now and then, by one step of the 127.
const TERNARY: f64 = 2e-2;

/// Tokens to compare.
const TOKENS: [u32; 12] = [0, 300, 310, 45, 500, 620, 77, 800, 1000, 410, 33, 257];

/// Compares the logits of every token.
///
/// # Errors
/// An engine that cannot be run; logits that differ by more than the bound.
pub fn run(model: &Model, folder: &Path) -> Result<()> {
    let (engine, bound) = match model.mode {
        Mode::Ternary => ("ternary", TERNARY),
        Mode::Fp16 => ("f16", FP16),
    };
    let tokens = TOKENS.map(|id| id.to_string()).join(",");
    let command = ["run", "--quiet", "-p", "harness", "--", "logits", "--all", "--engine", engine, "--tokens", &tokens];
    let done = Command::new("cargo").args(command).arg("--model").arg(folder).output().context("cargo")?;
    if !done.status.success() {
        bail!("harness logits: {}", String::from_utf8_lossy(&done.stderr));
    }
    let output: Output = serde_json::from_slice(&done.stdout).context("harness logits")?;
    let difference = relative_rms(&logits(model, &TOKENS)?, &output.logits)?;
    println!("{engine}: relative rms difference {difference:.2e}, bound {bound:.0e}");
    if difference > bound {
        bail!("the engine's logits are not the trainer's");
    }
    Ok(())
}

fn relative_rms(own: &[Vec<f32>], other: &[Vec<f32>]) -> Result<f64> {
    let (own, other): (Vec<f32>, Vec<f32>) = (own.concat(), other.concat());
    if own.len() != other.len() {
        bail!("{} logits, and {} of the engine", own.len(), other.len());
    }
    let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>();
    let apart = square(&mut own.iter().zip(&other).map(|(a, b)| a - b));
    Ok((apart / square(&mut own.iter().copied())).sqrt())
}
