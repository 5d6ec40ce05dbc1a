//! Mean cross-entropy over the tokens that have a target.

use super::{values, width, with};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// The target of a token that predicts nothing.
pub const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct CrossEntropy(Arc<Vec<u32>>);

impl CrossEntropy {
    fn counted(&self) -> f32 {
        self.0.iter().filter(|&&target| target != NONE).count().max(1) as f32
    }
}

/// The logarithm of the sum of exponentials.
#[must_use]
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    most + logits.iter().map(|logit| (logit - most).exp()).sum::<f32>().ln()
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (logits, width) = (values(storage, layout)?, width(layout)?);
        let row = |(logits, &target): (&[f32], &u32)| match target {
            NONE => 0.0,
            target => log_sum_exp(logits) - logits[target as usize],
        };
        let losses: Vec<f32> = logits.par_chunks(width).zip(self.0.par_iter()).map(row).collect();
        let sum: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        Ok((CpuStorage::F32(vec![sum as f32 / self.counted()]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let factor = grad.to_scalar::<f32>()? / self.counted();
        let (_, width) = logits.dims2()?;
        let mut out = vec![0.0; logits.elem_count()];
        with(logits, |logits| {
            let rows = out.par_chunks_mut(width).zip(logits.par_chunks(width)).zip(self.0.par_iter());
            rows.for_each(|((out, logits), &target)| {
                if target == NONE {
                    return;
                }
                let sum = log_sum_exp(logits);
                for (out, logit) in out.iter_mut().zip(logits) {
                    *out = (logit - sum).exp() * factor;
                }
                out[target as usize] -= factor;
            });
            Ok(())
        })?;
        Ok(Some(Tensor::from_vec(out, logits.shape(), logits.device())?))
    }
}

/// Mean loss of `logits` (`[tokens, vocabulary]`), tokens whose target is [`NONE`] apart.
///
/// # Errors
/// If `logits` is not contiguous f32 on the CPU.
pub fn cross_entropy(logits: &Tensor, targets: Arc<Vec<u32>>) -> Result<Tensor> {
    logits.apply_op1(CrossEntropy(targets))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, normal};
    use super::*;

    #[test]
    fn gradient_is_the_difference() -> Result<()> {
        let logits = normal(&[4, 9], 1)?;
        let targets = Arc::new(vec![3, NONE, 0, 8]);
        check_gradient(std::slice::from_ref(&logits), || cross_entropy(&logits, targets.clone()))
    }
}
