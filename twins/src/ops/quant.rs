//! Quantisation-aware training as the BitNet papers define it (arXiv 2310.11453, 2402.17764): what is computed is
//! quantised, what is learnt is not; gradients pass straight through.

use super::{made, values, width};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Least value of a mean or maximum that is divided by.
const LEAST: f32 = 1e-5;

/// The scale of a ternary matrix: the mean of |W|.
#[must_use]
pub fn absmean(weights: &[f32]) -> f32 {
    let sum: f64 = weights.iter().map(|w| f64::from(w.abs())).sum();
    ((sum / weights.len() as f64) as f32).max(LEAST)
}

/// The trit of a weight: `round(clip(w / scale, -1, 1))`.
#[must_use]
pub fn trit(weight: f32, scale: f32) -> i8 {
    (weight * (1.0 / scale)).round_ties_even().clamp(-1.0, 1.0) as i8
}

/// Weights to trits times their mean |W|; the gradient passes unchanged.
#[derive(Debug)]
struct Ternary;

impl CustomOp1 for Ternary {
    fn name(&self) -> &'static str {
        "ternary"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let weights = values(storage, layout)?;
        let scale = absmean(weights);
        // |w| = scale / 2 is a tie, which rounds to 0.
        let half = 0.5;
        let inverse = 1.0 / scale;
        let ternary = |w: &f32| {
            let x = w * inverse;
            f32::from(i8::from(x > half) - i8::from(x < -half)) * scale
        };
        Ok(made(weights.iter().map(ternary).collect(), layout))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// Each row to int8 by its largest |x|, and back; the gradient passes unchanged.
#[derive(Debug)]
struct Int8;

impl CustomOp1 for Int8 {
    fn name(&self) -> &'static str {
        "int8"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, width) = (values(storage, layout)?, width(layout)?);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width).zip(x.par_chunks(width)).for_each(|(out, x)| {
            let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs())).max(LEAST);
            let (scale, inverse) = (127.0 / most, 1.0 / (127.0 / most));
            for (out, x) in out.iter_mut().zip(x) {
                *out = nearest(x * scale) * inverse;
            }
        });
        Ok(made(out, layout))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.clone()))
    }
}

/// The nearest whole number, ties to even, of |x| far below 2^22: an addition that leaves no room for a fraction.
fn nearest(x: f32) -> f32 {
    const ROOM: f32 = 12_582_912.0;
    (x + ROOM) - ROOM
}

/// Ternary weights, straight-through.
///
/// # Errors
/// If `weights` is not a contiguous f32 tensor on the CPU.
pub fn ternary(weights: &Tensor) -> Result<Tensor> {
    weights.apply_op1(Ternary)
}

/// int8 activations, straight-through.
///
/// # Errors
/// If `x` is not a contiguous f32 tensor on the CPU.
pub fn int8(x: &Tensor) -> Result<Tensor> {
    x.apply_op1(Int8)
}

#[cfg(test)]
mod tests {
    use super::super::testing::normal;
    use super::*;

    #[test]
    fn ternary_values_are_minus_one_zero_and_one_times_the_scale() -> Result<()> {
        let weights = normal(&[32, 48], 1)?;
        let master = weights.flatten_all()?.to_vec1::<f32>()?;
        let scale = absmean(&master);
        let made = ternary(&weights)?.flatten_all()?.to_vec1::<f32>()?;
        for (made, master) in made.iter().zip(&master) {
            assert!([-scale, 0.0, scale].contains(made), "{made}");
            assert_eq!(*made, f32::from(trit(*master, scale)) * scale);
        }
        for value in [-scale, 0.0, scale] {
            assert!(made.contains(&value), "no {value}");
        }
        Ok(())
    }

    #[test]
    fn gradients_pass_straight_through() -> Result<()> {
        for op in [ternary, int8] {
            let (x, weights) = (normal(&[4, 16], 2)?, normal(&[4, 16], 3)?);
            let grads = op(&x)?.mul(&weights)?.sum_all()?.backward()?;
            let grad = grads.get(&x).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(grad, weights.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }

    #[test]
    fn int8_has_127_steps_either_side_of_each_row() -> Result<()> {
        let x = normal(&[5, 64], 4)?;
        let (x, made) = (x.to_vec2::<f32>()?, int8(&x)?.to_vec2::<f32>()?);
        for (x, made) in x.iter().zip(&made) {
            let most = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            for (x, made) in x.iter().zip(made) {
                let steps = made * 127.0 / most;
                assert!((steps - steps.round()).abs() < 1e-3 && steps.abs() < 127.5);
                assert!((x - made).abs() <= most / 127.0 * 0.501);
            }
        }
        Ok(())
    }

    #[test]
    fn nearest_takes_ties_to_even() {
        for x in [0.5f32, 1.5, 2.5, -0.5, -1.5, 3.2, -126.7, 127.0] {
            assert_eq!(nearest(x), x.round_ties_even());
        }
    }
}
