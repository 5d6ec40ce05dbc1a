//! Causal attention with shared key/value heads, each token of a packed row seeing its own document alone.

use super::{add_scaled, dot, values, with};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// How heads and rows lie.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, a divisor.
    pub kv_heads: usize,
    /// Values of a head.
    pub head: usize,
    /// Tokens of a sequence.
    pub time: usize,
    /// For every token of the batch, the first of its sequence that it sees.
    pub starts: Arc<Vec<u32>>,
}

impl Plan {
    fn q_width(&self) -> usize {
        self.heads * self.head
    }

    fn kv_width(&self) -> usize {
        self.kv_heads * self.head
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head as f32).sqrt()
    }

    /// What token `at` gives each token from `start` to itself, into `p`.
    fn weigh(&self, q: &[f32], k: &[f32], (start, at): (usize, usize), kv_from: usize, p: &mut Vec<f32>) {
        p.clear();
        let (width, scale) = (self.kv_width(), self.scale());
        p.extend((start..=at).map(|s| dot(q, &k[s * width + kv_from..][..self.head]) * scale));
        let most = p.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for p in p.iter_mut() {
            *p = (*p - most).exp();
            sum += *p;
        }
        for p in p.iter_mut() {
            *p /= sum;
        }
    }

    /// One sequence forward.
    fn forward(&self, sequence: usize, out: &mut [f32], (q, k, v): (&[f32], &[f32], &[f32])) {
        let (head, mut p) = (self.head, Vec::with_capacity(self.time));
        for at in 0..self.time {
            let start = self.starts[sequence * self.time + at] as usize;
            for h in 0..self.heads {
                let (from, kv_from) = (at * self.q_width() + h * head, h * self.kv_heads / self.heads * head);
                self.weigh(&q[from..from + head], k, (start, at), kv_from, &mut p);
                let out = &mut out[from..from + head];
                for (s, p) in (start..).zip(&p) {
                    add_scaled(out, *p, &v[s * self.kv_width() + kv_from..][..head]);
                }
            }
        }
    }

    /// One sequence backward.
    fn backward(&self, sequence: usize, grads: Grads<'_>, (q, k, v): (&[f32], &[f32], &[f32]), grad: &[f32]) {
        let (head, width, mut p, mut dp) = (self.head, self.kv_width(), Vec::new(), Vec::new());
        for at in 0..self.time {
            let start = self.starts[sequence * self.time + at] as usize;
            for h in 0..self.heads {
                let (from, kv_from) = (at * self.q_width() + h * head, h * self.kv_heads / self.heads * head);
                let (q, grad) = (&q[from..from + head], &grad[from..from + head]);
                self.weigh(q, k, (start, at), kv_from, &mut p);
                dp.clear();
                for (s, p) in (start..).zip(&p) {
                    let kv = s * width + kv_from;
                    dp.push(dot(grad, &v[kv..kv + head]));
                    add_scaled(&mut grads.v[kv..kv + head], *p, grad);
                }
                let mean = dot(&p, &dp);
                for (s, (p, dp)) in (start..).zip(p.iter().zip(&dp)) {
                    let (ds, kv) = (p * (dp - mean) * self.scale(), s * width + kv_from);
                    add_scaled(&mut grads.q[from..from + head], ds, &k[kv..kv + head]);
                    add_scaled(&mut grads.k[kv..kv + head], ds, q);
                }
            }
        }
    }
}

/// Where gradients of a sequence go.
struct Grads<'a> {
    q: &'a mut [f32],
    k: &'a mut [f32],
    v: &'a mut [f32],
}

#[derive(Debug)]
struct Attention(Plan);

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (values(q, ql)?, values(k, kl)?, values(v, vl)?);
        let (wide, narrow) = (self.0.time * self.0.q_width(), self.0.time * self.0.kv_width());
        let mut out = vec![0.0; q.len()];
        let inputs = q.par_chunks(wide).zip(k.par_chunks(narrow)).zip(v.par_chunks(narrow));
        out.par_chunks_mut(wide).zip(inputs).enumerate().for_each(|(sequence, (out, ((q, k), v)))| {
            self.0.forward(sequence, out, (q, k, v));
        });
        Ok((CpuStorage::F32(out), ql.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (wide, narrow) = (self.0.time * self.0.q_width(), self.0.time * self.0.kv_width());
        let zeros = |tensor: &Tensor| vec![0.0; tensor.elem_count()];
        let (mut dq, mut dk, mut dv) = (zeros(q), zeros(k), zeros(v));
        let mut all = |q: &[f32], k: &[f32], v: &[f32], grad: &[f32]| {
            let out = dq.par_chunks_mut(wide).zip(dk.par_chunks_mut(narrow)).zip(dv.par_chunks_mut(narrow));
            let inputs = q.par_chunks(wide).zip(k.par_chunks(narrow)).zip(v.par_chunks(narrow));
            let inputs = inputs.zip(grad.par_chunks(wide));
            out.zip(inputs).enumerate().for_each(|(sequence, (((q, k), v), (((qs, ks), vs), grad)))| {
                self.0.backward(sequence, Grads { q, k, v }, (qs, ks, vs), grad);
            });
            Ok(())
        };
        with(q, |q| with(k, |k| with(v, |v| with(grad, |grad| all(q, k, v, grad)))))?;
        let like = |values, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        Ok((Some(like(dq, q)?), Some(like(dk, k)?), Some(like(dv, v)?)))
    }
}

/// Attention of `q` (`[batch * time, heads * head]`) on `k` and `v` (`[batch * time, kv_heads * head]`).
///
/// # Errors
/// If a tensor is not contiguous f32 on the CPU.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, plan: &Plan) -> Result<Tensor> {
    q.apply_op3(k, v, Attention(plan.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check_gradient, normal};
    use super::*;

    fn plan() -> Plan {
        let starts = Arc::new(vec![0, 0, 0, 3, 3, 0, 1, 1, 1, 1]);
        Plan { heads: 4, kv_heads: 2, head: 8, time: 5, starts }
    }

    #[test]
    fn gradient_is_the_difference() -> Result<()> {
        let (q, k, v) = (normal(&[10, 32], 1)?, normal(&[10, 16], 2)?, normal(&[10, 16], 3)?);
        check_gradient(&[q.clone(), k.clone(), v.clone()], || attention(&q, &k, &v, &plan()))
    }

    #[test]
    fn a_token_sees_neither_later_tokens_nor_other_documents() -> Result<()> {
        let (q, k) = (normal(&[10, 32], 1)?, normal(&[10, 16], 2)?);
        let v = |changed: usize| {
            let mut rows = normal(&[10, 16], 3)?.to_vec2::<f32>()?;
            rows[changed].fill(9.0);
            Tensor::new(rows, q.device())
        };
        let out = |changed| attention(&q, &k, &v(changed)?, &plan())?.to_vec2::<f32>();
        let (third, fourth) = (out(2)?, out(3)?);
        assert_eq!(third[3], normal_out(&q, &k)?[3]);
        assert_eq!(fourth[2], normal_out(&q, &k)?[2]);
        assert_ne!(fourth[4], normal_out(&q, &k)?[4]);
        Ok(())
    }

    fn normal_out(q: &Tensor, k: &Tensor) -> Result<Vec<Vec<f32>>> {
        attention(q, k, normal(&[10, 16], 3)?.as_tensor(), &plan())?.to_vec2()
    }
}
