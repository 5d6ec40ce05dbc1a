//! Rotary positions in the pairing of Hugging Face's `rotate_half`: (i, i + d/2).

use super::{made, values};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Cosines and sines of every position and pair.
#[derive(Debug)]
pub struct Angles {
    head: usize,
    context: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Angles {
    /// The table for heads of `head` values, `context` positions and base `theta`.
    #[must_use]
    pub fn new(head: usize, context: usize, theta: f64) -> Arc<Self> {
        let angle = |at: usize| {
            let (position, pair) = (at / (head / 2), at % (head / 2));
            position as f64 * theta.powf(-2.0 * pair as f64 / head as f64)
        };
        let all = 0..context * head / 2;
        let cos = all.clone().map(|at| angle(at).cos() as f32).collect();
        Arc::new(Self { head, context, cos, sin: all.map(|at| angle(at).sin() as f32).collect() })
    }
}

/// Turns the heads of each token; rows are `[batch * time, heads * head]`, `time` of them to a sequence.
#[derive(Debug)]
struct Rope {
    angles: Arc<Angles>,
    time: usize,
    width: usize,
    /// The gradient turns back.
    back: bool,
}

impl CustomOp1 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, half) = (values(storage, layout)?, self.angles.head / 2);
        let mut out = vec![0.0; x.len()];
        let rows = out.par_chunks_mut(self.width).zip(x.par_chunks(self.width)).enumerate();
        rows.for_each(|(row, (out, x))| {
            let from = (row % self.time) * half;
            let (cos, sin) = (&self.angles.cos[from..from + half], &self.angles.sin[from..from + half]);
            for (out, x) in out.chunks_mut(2 * half).zip(x.chunks(2 * half)) {
                for i in 0..half {
                    let sin = if self.back { -sin[i] } else { sin[i] };
                    out[i] = x[i] * cos[i] - x[i + half] * sin;
                    out[i + half] = x[i + half] * cos[i] + x[i] * sin;
                }
            }
        });
        Ok(made(out, layout))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Rope { angles: self.angles.clone(), time: self.time, width: self.width, back: !self.back };
        Ok(Some(grad.contiguous()?.apply_op1_no_bwd(&back)?))
    }
}

/// Turns `x`, `[batch * time, heads * head]`, by the positions 0 to `time` - 1.
///
/// # Errors
/// If `x` is not contiguous f32 on the CPU, or longer than the table.
pub fn rope(x: &Tensor, angles: &Arc<Angles>, time: usize) -> Result<Tensor> {
    let (_, width) = x.dims2()?;
    if time > angles.context {
        candle_core::bail!("{time} positions, where the context is {}", angles.context);
    }
    x.apply_op1(Rope { angles: angles.clone(), time, width, back: false })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, normal};
    use super::*;

    #[test]
    fn gradient_is_the_difference() -> Result<()> {
        let (x, angles) = (normal(&[6, 16], 1)?, Angles::new(8, 3, 100.0));
        check_gradient(std::slice::from_ref(&x), || rope(&x, &angles, 3))
    }
}
