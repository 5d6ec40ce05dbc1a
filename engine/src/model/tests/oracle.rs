//! The forward pass once more: naive, in f64, from the papers, sharing no code with the engine but the weights.

use crate::linear::Linear;
use crate::model::{Activation, Config, Model, RopeStyle};

/// A mistake to plant, of the kind that still yields plausible logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// Dividing by the weight scale, as the legacy checkpoints mean it, instead of multiplying.
    InverseScale,
    MissingSubNorms,
    OtherActivation,
    OtherRope,
    /// Attention that sees only the position before.
    MaskOffByOne,
    /// Keys and values of the wrong head in grouped-query attention.
    WrongGroup,
    MissingBias,
    MissingHeadNorms,
    /// Without the factors of the RoPE frequencies.
    UnscaledRope,
    /// A sliding window that counts the positions before the query's own.
    WindowOffByOne,
}

/// How the oracle computes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Oracle {
    /// Round the inputs of the blocks' linear layers to int8 with one scale a token.
    pub(super) quantise: bool,
    /// Round each head's key and value to int8 with one scale, and each query that such keys are multiplied by.
    pub(super) int8_cache: bool,
    pub(super) fault: Fault,
}

impl Oracle {
    /// Logits after each token, `tokens x vocab`.
    pub(super) fn logits(self, model: &Model, tokens: &[u32]) -> Vec<f64> {
        let config = model.config();
        let mut residual: Vec<Vec<f64>> = tokens.iter().map(|&token| row(model.embedding(), token as usize)).collect();
        for layer in model.layers() {
            let normed: Vec<_> = residual.iter().map(|x| self.norm(config, x, &layer.attn_norm)).collect();
            let project = |linear| normed.iter().map(|x| self.linear(linear, x)).collect::<Vec<_>>();
            let (mut q, mut k, mut v) = (project(&layer.q), project(&layer.k), project(&layer.v));
            for (rows, bias) in [(&mut q, &layer.q_bias), (&mut k, &layer.k_bias), (&mut v, &layer.v_bias)] {
                rows.iter_mut().for_each(|x| self.bias(x, bias.as_deref()));
            }
            for position in 0..tokens.len() {
                self.head_norm(config, &mut q[position], layer.q_norm.as_deref());
                self.head_norm(config, &mut k[position], layer.k_norm.as_deref());
                self.rope(config, &mut q[position], position);
                self.rope(config, &mut k[position], position);
                if self.int8_cache {
                    round_heads(config, &mut q[position]);
                    round_heads(config, &mut k[position]);
                    round_heads(config, &mut v[position]);
                }
            }
            for position in 0..tokens.len() {
                let mut answer = self.attention(config, &q[position], &k, &v, position);
                if let Some(weight) = layer.attn_sub_norm.as_ref().filter(|_| self.fault != Fault::MissingSubNorms) {
                    answer = self.norm(config, &answer, weight);
                }
                let mut delta = self.linear(&layer.o, &answer);
                self.bias(&mut delta, layer.o_bias.as_deref());
                add(&mut residual[position], &delta);
            }
            for x in &mut residual {
                let normed = self.norm(config, x, &layer.ffn_norm);
                let (gate, up) = (self.linear(&layer.gate, &normed), self.linear(&layer.up, &normed));
                let mut inside: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| self.activate(config, *g) * u).collect();
                if let Some(weight) = layer.ffn_sub_norm.as_ref().filter(|_| self.fault != Fault::MissingSubNorms) {
                    inside = self.norm(config, &inside, weight);
                }
                add(x, &self.linear(&layer.down, &inside));
            }
        }
        let head = Oracle { quantise: false, int8_cache: false, fault: Fault::None };
        residual.iter().flat_map(|x| head.linear(model.head(), &self.norm(config, x, model.output_norm()))).collect()
    }

    fn linear(self, linear: &Linear, x: &[f64]) -> Vec<f64> {
        let x = if self.quantise { int8(x) } else { x.to_vec() };
        let factor = match (self.fault, linear) {
            (Fault::InverseScale, Linear::Ternary(matrix)) => f64::from(matrix.scale()).powi(-2),
            (Fault::InverseScale, _) => f64::from(largest(linear)).powi(-2),
            _ => 1.0,
        };
        (0..linear.rows()).map(|r| row(linear, r).iter().zip(&x).map(|(w, x)| w * x).sum::<f64>() * factor).collect()
    }

    fn norm(self, config: &Config, x: &[f64], weight: &[f32]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let rms = (mean + f64::from(config.norm_eps)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / rms * f64::from(*w)).collect()
    }

    fn bias(self, x: &mut [f64], bias: Option<&[f32]>) {
        if let Some(bias) = bias.filter(|_| self.fault != Fault::MissingBias) {
            x.iter_mut().zip(bias).for_each(|(x, b)| *x += f64::from(*b));
        }
    }

    fn head_norm(self, config: &Config, x: &mut [f64], weight: Option<&[f32]>) {
        if let Some(weight) = weight.filter(|_| self.fault != Fault::MissingHeadNorms) {
            for head in x.chunks_mut(config.head_dim) {
                let normed = self.norm(config, head, weight);
                head.copy_from_slice(&normed);
            }
        }
    }

    fn activate(self, config: &Config, x: f64) -> f64 {
        let relu2 = (config.activation == Activation::Relu2) != (self.fault == Fault::OtherActivation);
        if relu2 { x.max(0.0).powi(2) } else { x / (1.0 + (-x).exp()) }
    }

    fn rope(self, config: &Config, x: &mut [f64], position: usize) {
        let dim = config.head_dim;
        let neox = (config.rope == RopeStyle::Neox) != (self.fault == Fault::OtherRope);
        for head in x.chunks_mut(dim) {
            for i in 0..dim / 2 {
                let (a, b) = if neox { (i, i + dim / 2) } else { (2 * i, 2 * i + 1) };
                let scaled = !config.rope_factors.is_empty() && self.fault != Fault::UnscaledRope;
                let factor = if scaled { f64::from(config.rope_factors[i]) } else { 1.0 };
                let angle = position as f64 / config.rope_theta.powf(2.0 * i as f64 / dim as f64) / factor;
                let (sin, cos) = angle.sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
    }

    fn attention(self, config: &Config, q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>], position: usize) -> Vec<f64> {
        let dim = config.head_dim;
        let seen = if self.fault == Fault::MaskOffByOne { position.max(1) } else { position + 1 };
        let window = config.sliding_window.map(|w| w + usize::from(self.fault == Fault::WindowOffByOne));
        // transformers: a key at `t` is seen if `t > position - window`.
        let visible = |t: usize| window.is_none_or(|w| t as i64 > position as i64 - w as i64);
        let mut answer = Vec::new();
        for head in 0..config.heads {
            let kv_head = match self.fault {
                Fault::WrongGroup => head % config.kv_heads,
                _ => head / (config.heads / config.kv_heads),
            };
            let part = |x: &[f64], head: usize| x[head * dim..(head + 1) * dim].to_vec();
            let score = |t: usize| {
                let (q, k) = (part(q, head), part(&k[t], kv_head));
                q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() / (dim as f64).sqrt()
            };
            let scores: Vec<f64> = (0..seen).map(|t| if visible(t) { score(t) } else { f64::NEG_INFINITY }).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            for d in 0..dim {
                answer.push((0..seen).map(|t| weights[t] / total * v[t][kv_head * dim + d]).sum());
            }
        }
        answer
    }
}

fn row(linear: &Linear, row: usize) -> Vec<f64> {
    let mut values = vec![0.0; linear.cols()];
    linear.row_to_f32(row, &mut values);
    values.into_iter().map(f64::from).collect()
}

/// The largest weight: the scale of a ternary matrix written out.
fn largest(linear: &Linear) -> f32 {
    row(linear, 0).iter().fold(0.0f64, |largest, w| largest.max(w.abs())) as f32
}

fn int8(x: &[f64]) -> Vec<f64> {
    let scale = 127.0 / x.iter().fold(1e-5f64, |largest, x| largest.max(x.abs()));
    x.iter().map(|x| (x * scale).round_ties_even().clamp(-128.0, 127.0) / scale).collect()
}

fn round_heads(config: &Config, x: &mut [f64]) {
    for head in x.chunks_mut(config.head_dim) {
        let scale = head.iter().fold(0.0f64, |largest, x| largest.max(x.abs())) / 127.0;
        head.iter_mut().for_each(|x| *x = (*x / scale).round_ties_even() * scale);
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
