//! The training loop: resumable, and the same for both twins but for the quantisation.

use crate::batches::Batches;
use crate::model::{Mode, Model, Shape};
use crate::ops::loss::cross_entropy;
use crate::optimizer::{AdamW, Schedule};
use crate::tokens;
use anyhow::{Context as _, Result, bail};
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// All that determines a training; written beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Which twin.
    pub mode: Mode,
    /// The shape.
    pub shape: Shape,
    /// The schedule.
    pub schedule: Schedule,
    /// Rows of a batch.
    pub rows: usize,
    /// Of the corpus, the tokenizer and the first weights.
    pub seed: u64,
    /// Every first weight moved by a relative 2⁻²² up or down, by this seed: a stand-in for the other rounding of another machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nudge: Option<u64>,
    /// Steps from one line of the loss curve to the next.
    pub log_every: usize,
    /// Steps from one checkpoint to the next.
    pub save_every: usize,
}

/// How far a training is.
#[derive(Debug)]
pub struct State {
    /// The model.
    pub model: Model,
    optimizer: AdamW,
    /// Steps done.
    pub step: usize,
}

/// The files of a training's folder.
const PLAN: &str = "plan.json";
const CURVE: &str = "loss.csv";
const CHECKPOINT: &str = "checkpoint.safetensors";

impl State {
    /// The state before the first step.
    ///
    /// # Errors
    /// What candle says.
    pub fn new(plan: &Plan) -> Result<Self> {
        let model = Model::new(plan.shape.clone(), plan.mode, plan.seed, plan.nudge)?;
        Ok(Self { model, optimizer: AdamW::default(), step: 0 })
    }

    /// The state that a folder's checkpoint holds, and its plan.
    ///
    /// # Errors
    /// A file that is missing or does not fit the plan.
    pub fn load(folder: &Path) -> Result<(Plan, Self)> {
        let path = folder.join(PLAN);
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let plan: Plan = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        let path = folder.join(CHECKPOINT);
        let mut tensors =
            candle_core::safetensors::load(&path, &Device::Cpu).with_context(|| path.display().to_string())?;
        let mut take = |name: &str| tensors.remove(name).with_context(|| format!("{}: no {name}", path.display()));
        let step = take("step")?.to_scalar::<i64>()? as usize;
        let (mut weights, mut optimizer) = (BTreeMap::new(), AdamW::default());
        for (name, dims) in plan.shape.weights() {
            let weight = take(&name)?;
            if weight.dims() != dims {
                bail!("{}: {name} is {:?}, not {dims:?}", path.display(), weight.dims());
            }
            let moment = |tensor: Tensor| tensor.flatten_all()?.to_vec1::<f32>();
            let moments = (moment(take(&format!("m.{name}"))?)?, moment(take(&format!("v.{name}"))?)?);
            optimizer.moments.insert(name.clone(), moments);
            weights.insert(name, Var::from_tensor(&weight)?);
        }
        let model = Model::with(plan.shape.clone(), plan.mode, weights);
        Ok((plan, Self { model, optimizer, step }))
    }

    /// Writes plan and checkpoint; a checkpoint is there whole or not at all.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, plan: &Plan, folder: &Path) -> Result<()> {
        let mut tensors = HashMap::new();
        tensors.insert("step".to_owned(), Tensor::new(self.step as i64, &Device::Cpu)?);
        for (name, var) in &self.model.weights {
            tensors.insert(name.clone(), var.as_tensor().clone());
            if let Some((m, v)) = self.optimizer.moments.get(name) {
                tensors.insert(format!("m.{name}"), Tensor::new(m.as_slice(), &Device::Cpu)?);
                tensors.insert(format!("v.{name}"), Tensor::new(v.as_slice(), &Device::Cpu)?);
            }
        }
        let partial = folder.join("checkpoint.partial");
        candle_core::safetensors::save(&tensors, &partial)?;
        std::fs::write(folder.join(PLAN), format!("{}\n", serde_json::to_string_pretty(plan)?))?;
        std::fs::rename(partial, folder.join(CHECKPOINT))?;
        Ok(())
    }

    /// One step; gives the loss and the norm of its gradients.
    ///
    /// # Errors
    /// What candle says; a loss that is not finite.
    pub fn step(&mut self, batches: &mut Batches, schedule: &Schedule) -> Result<(f32, f64)> {
        let batch = batches.draw()?;
        let loss = cross_entropy(&self.model.forward(&batch)?, batch.targets.clone())?;
        let norm = self.optimizer.step(&self.model.weights, &loss.backward()?, self.step, schedule)?;
        let loss = loss.to_scalar::<f32>()?;
        if !loss.is_finite() {
            bail!("the loss of step {} is {loss}", self.step);
        }
        self.step += 1;
        Ok((loss, norm))
    }
}

/// Trains by `plan` into `folder`, from its checkpoint if it has one, at most to step `until`.
///
/// # Errors
/// A folder of another plan; what cannot be written.
pub fn run(plan: &Plan, folder: &Path, until: usize) -> Result<State> {
    std::fs::create_dir_all(folder)?;
    let mut state = match folder.join(CHECKPOINT).exists() {
        true => {
            let (before, state) = State::load(folder)?;
            if before != *plan {
                bail!("{} holds a training of another plan", folder.display());
            }
            state
        }
        false => State::new(plan)?,
    };
    let tokenizer = tokens::train(plan.seed)?;
    tokens::save(&tokenizer, folder)?;
    let mut batches = Batches::new(plan.seed, tokenizer, plan.rows, plan.shape.context);
    for _ in 0..state.step {
        batches.draw()?;
    }
    let mut curve = Curve::open(&folder.join(CURVE), state.step)?;
    let size = (plan.rows * plan.shape.context) as f64;
    let (mut sum, mut count, mut since) = (0.0, 0, Instant::now());
    while state.step < until.min(plan.schedule.steps) {
        let rate = plan.schedule.rate(state.step);
        let (loss, norm) = state.step(&mut batches, &plan.schedule)?;
        (sum, count) = (sum + f64::from(loss), count + 1);
        if state.step.is_multiple_of(plan.log_every) || state.step == plan.schedule.steps {
            let speed = f64::from(count) * size / since.elapsed().as_secs_f64();
            curve.line(state.step, sum / f64::from(count), rate, norm)?;
            eprintln!("step {} loss {:.4} {speed:.0} tokens/s", state.step, sum / f64::from(count));
            (sum, count, since) = (0.0, 0, Instant::now());
        }
        if state.step.is_multiple_of(plan.save_every) {
            state.save(plan, folder)?;
        }
    }
    state.save(plan, folder)?;
    Ok(state)
}

/// The loss curve's file: mean loss since the line before.
struct Curve(std::fs::File);

impl Curve {
    /// Keeps the lines up to `step`.
    fn open(path: &Path, step: usize) -> Result<Self> {
        const HEAD: &str = "step,loss,rate,gradient_norm\n";
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let kept =
            |line: &&str| line.split(',').next().and_then(|at| at.parse().ok()).is_some_and(|at: usize| at <= step);
        let mut text = HEAD.to_owned();
        for line in old.lines().skip(1).filter(kept) {
            text.push_str(line);
            text.push('\n');
        }
        std::fs::write(path, text)?;
        Ok(Self(std::fs::OpenOptions::new().append(true).open(path)?))
    }

    fn line(&mut self, step: usize, loss: f64, rate: f64, norm: f64) -> Result<()> {
        Ok(writeln!(self.0, "{step},{loss:.5},{rate:.3e},{norm:.4}")?)
    }
}

/// A loss curve named as `NAME=FILE`.
///
/// # Errors
/// Another form; a file that is no loss curve (with its line).
pub fn curve(text: &str) -> Result<reports::curves::Curve> {
    let (name, path) = text.split_once('=').with_context(|| format!("--curve: expected NAME=FILE, found {text}"))?;
    let lines = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let point = |(number, line): (usize, &str)| {
        let mut fields = line.split(',').map(str::parse::<f64>);
        match (fields.next(), fields.next()) {
            (Some(Ok(step)), Some(Ok(loss))) => Ok((step, loss)),
            _ => bail!("{path}:{}: expected step,loss,.., found {line}", number + 1),
        }
    };
    let points = lines.lines().enumerate().skip(1).map(point).collect::<Result<_>>()?;
    Ok(reports::curves::Curve { name: name.to_owned(), points })
}
