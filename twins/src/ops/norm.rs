//! RMSNorm: `x / sqrt(mean(x^2) + eps) * weight`, row by row.

use super::{dot, made, values, width, with};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

#[derive(Debug)]
struct RmsNorm(f32);

impl RmsNorm {
    fn inverse(&self, x: &[f32]) -> f32 {
        1.0 / (dot(x, x) / x.len() as f32 + self.0).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let (width, x, w) = (width(xl)?, values(x, xl)?, values(w, wl)?);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(out, x)| {
            let inverse = self.inverse(x);
            for ((out, x), w) in out.iter_mut().zip(x).zip(w) {
                *out = x * inverse * w;
            }
        });
        Ok(made(out, xl))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = w.elem_count();
        let (mut dx, mut dw) = (vec![0.0; x.elem_count()], vec![0.0; width]);
        with(x, |xs| {
            with(w, |w| {
                with(grad, |grads| {
                    // Blocks of rows, each with a sum of its own for the weight, added up in order.
                    let block = width * 64;
                    let parts: Vec<Vec<f32>> = dx
                        .par_chunks_mut(block)
                        .zip(xs.par_chunks(block).zip(grads.par_chunks(block)))
                        .map(|(dx, (x, grad))| self.block(width, w, dx, x, grad))
                        .collect();
                    for part in parts {
                        super::add_scaled(&mut dw, 1.0, &part);
                    }
                    Ok(())
                })
            })
        })?;
        Ok((Some(Tensor::from_vec(dx, x.shape(), x.device())?), Some(Tensor::from_vec(dw, w.shape(), w.device())?)))
    }
}

impl RmsNorm {
    /// Gradients of some rows; what they add to the weight's is given back.
    fn block(&self, width: usize, w: &[f32], dx: &mut [f32], x: &[f32], grad: &[f32]) -> Vec<f32> {
        let (mut dw, mut scaled) = (vec![0.0; width], vec![0.0; width]);
        for ((dx, x), grad) in dx.chunks_mut(width).zip(x.chunks(width)).zip(grad.chunks(width)) {
            let inverse = self.inverse(x);
            for at in 0..width {
                dw[at] += grad[at] * x[at] * inverse;
                scaled[at] = grad[at] * w[at];
            }
            let pull = dot(&scaled, x) * inverse * inverse / width as f32;
            for at in 0..width {
                dx[at] = inverse * (scaled[at] - x[at] * pull);
            }
        }
        dw
    }
}

/// RMSNorm of the last dimension.
///
/// # Errors
/// If a tensor is not contiguous f32 on the CPU.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2(weight, RmsNorm(eps))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, normal};
    use super::*;

    #[test]
    fn gradient_is_the_difference() -> Result<()> {
        let (x, w) = (normal(&[70, 24], 1)?, normal(&[24], 2)?);
        check_gradient(&[x.clone(), w.clone()], || rms_norm(&x, &w, 1e-5))
    }
}
