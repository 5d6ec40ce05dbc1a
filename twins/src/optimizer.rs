//! AdamW with clipped gradients, and the schedule of the learning rate.

use anyhow::{Context as _, Result};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is the same for both twins but their weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Steps in all.
    pub steps: usize,
    /// Steps in which the rate rises from 0.
    pub warmup: usize,
    /// The highest rate.
    pub peak: f64,
    /// What the rate falls to, by a cosine, as a part of the highest.
    pub floor: f64,
    /// Pull of matrices to 0, a step, times the rate.
    pub decay: f64,
    /// Largest norm of all gradients together.
    pub clip: f64,
}

impl Schedule {
    /// The schedule of `steps` steps.
    #[must_use]
    pub fn new(steps: usize, peak: f64) -> Self {
        Self { steps, warmup: (steps / 20).clamp(1, 200), peak, floor: 0.05, decay: 0.05, clip: 1.0 }
    }

    /// The rate of a step, counted from 0.
    #[must_use]
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let part = (step - self.warmup) as f64 / (self.steps.saturating_sub(self.warmup)).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part.min(1.0)).cos());
        self.peak * (self.floor + (1.0 - self.floor) * cosine)
    }
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;

/// First and second moments of each weight.
#[derive(Clone, Debug, Default)]
pub struct AdamW {
    /// By the weight's name.
    pub moments: BTreeMap<String, (Vec<f32>, Vec<f32>)>,
}

impl AdamW {
    /// Takes step `step` (from 0); gives the norm of the gradients before clipping.
    ///
    /// # Errors
    /// A weight without a gradient.
    pub fn step(
        &mut self,
        weights: &BTreeMap<String, Var>,
        grads: &GradStore,
        step: usize,
        schedule: &Schedule,
    ) -> Result<f64> {
        let mut flat = Vec::with_capacity(weights.len());
        for (name, var) in weights {
            let grad = grads.get(var).with_context(|| format!("no gradient of {name}"))?;
            flat.push(grad.flatten_all()?.to_vec1::<f32>()?);
        }
        let squares = flat.par_iter().map(|grad| grad.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>());
        let norm = squares.collect::<Vec<_>>().iter().sum::<f64>().sqrt();
        let factor = if norm > schedule.clip { (schedule.clip / norm) as f32 } else { 1.0 };
        let rate = schedule.rate(step) as f32;
        let (first, second) = (1.0 - BETA1.powi(step as i32 + 1), 1.0 - BETA2.powi(step as i32 + 1));
        for ((name, var), grad) in weights.iter().zip(flat) {
            let decay = if var.rank() > 1 { rate * schedule.decay as f32 } else { 0.0 };
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let zeros = || (vec![0.0; values.len()], vec![0.0; values.len()]);
            let (m, v) = self.moments.entry(name.clone()).or_insert_with(zeros);
            let update = |(((w, m), v), g): (((&mut f32, &mut f32), &mut f32), &f32)| {
                let g = g * factor;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *w -= rate * (*m / first) / ((*v / second).sqrt() + EPS) + decay * *w;
            };
            let state = values.par_iter_mut().with_min_len(1 << 14).zip(m.par_iter_mut()).zip(v.par_iter_mut());
            state.zip(grad.par_iter()).for_each(update);
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu)?)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_then_falls_to_the_floor() {
        let schedule = Schedule::new(1000, 1e-3);
        assert!(schedule.rate(0) < schedule.rate(30));
        assert!((schedule.rate(schedule.warmup) - 1e-3).abs() < 1e-9);
        assert!((schedule.rate(1000) - 5e-5).abs() < 1e-9);
    }
}
