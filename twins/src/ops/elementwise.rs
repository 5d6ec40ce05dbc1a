//! The gate of the feed-forward: `max(gate, 0)^2 * up`.

use super::{made, values, with};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Values that one task works on.
const PART: usize = 1 << 14;

#[derive(Debug)]
struct Relu2Gate;

impl CustomOp2 for Relu2Gate {
    fn name(&self) -> &'static str {
        "relu2-gate"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, gl: &Layout, up: &CpuStorage, ul: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (values(gate, gl)?, values(up, ul)?);
        let mut out = vec![0.0; gate.len()];
        out.par_chunks_mut(PART).zip(gate.par_chunks(PART).zip(up.par_chunks(PART))).for_each(|(out, (gate, up))| {
            for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                let open = gate.max(0.0);
                *out = open * open * up;
            }
        });
        Ok(made(out, gl))
    }

    fn bwd(&self, gate: &Tensor, up: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (mut dg, mut du) = (vec![0.0; gate.elem_count()], vec![0.0; gate.elem_count()]);
        with(gate, |gate| {
            with(up, |up| {
                with(grad, |grad| {
                    let inputs = gate.par_chunks(PART).zip(up.par_chunks(PART)).zip(grad.par_chunks(PART));
                    dg.par_chunks_mut(PART).zip(du.par_chunks_mut(PART)).zip(inputs).for_each(
                        |((dg, du), ((gate, up), grad))| {
                            for at in 0..gate.len() {
                                let open = gate[at].max(0.0);
                                dg[at] = grad[at] * 2.0 * open * up[at];
                                du[at] = grad[at] * open * open;
                            }
                        },
                    );
                    Ok(())
                })
            })
        })?;
        let tensor = |values| Tensor::from_vec(values, gate.shape(), gate.device());
        Ok((Some(tensor(dg)?), Some(tensor(du)?)))
    }
}

/// `max(gate, 0)^2 * up`.
///
/// # Errors
/// If a tensor is not contiguous f32 on the CPU.
pub fn relu2_gate(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, Relu2Gate)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, normal};
    use super::*;

    #[test]
    fn gradient_is_the_difference() -> Result<()> {
        let (gate, up) = (normal(&[6, 24], 1)?, normal(&[6, 24], 2)?);
        check_gradient(&[gate.clone(), up.clone()], || relu2_gate(&gate, &up))
    }
}
