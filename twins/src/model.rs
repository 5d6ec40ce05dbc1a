//! The model: BitNet b1.58's blocks, with ternary linear layers or plain ones.

use crate::batches::Batch;
use crate::ops::attention::{Plan, attention};
use crate::ops::elementwise::relu2_gate;
use crate::ops::norm::rms_norm;
use crate::ops::quant::{int8, ternary};
use crate::ops::rope::{Angles, rope};
use crate::random::Random;
use candle_core::{Device, Result, Tensor, Var};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which of the twins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Ternary weights and int8 activations in the linear layers of blocks.
    Ternary,
    /// None of it.
    Fp16,
}

/// The shape, the same for both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward's inside.
    pub ffn: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Tokens known.
    pub vocab: usize,
    /// Longest text.
    pub context: usize,
    /// RoPE's base.
    pub theta: f64,
    /// Added to the mean square in RMSNorm.
    pub eps: f32,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            hidden: 256,
            ffn: 768,
            layers: 4,
            heads: 4,
            kv_heads: 4,
            vocab: crate::tokens::VOCAB,
            context: 256,
            theta: 10_000.0,
            eps: 1e-5,
        }
    }
}

impl Shape {
    /// Values of a head.
    #[must_use]
    pub fn head(&self) -> usize {
        self.hidden / self.heads
    }

    /// The linear layers of a block: name, outputs, inputs.
    #[must_use]
    pub fn linears(&self) -> [(&'static str, usize, usize); 7] {
        let kv = self.kv_heads * self.head();
        [
            ("self_attn.q_proj", self.hidden, self.hidden),
            ("self_attn.k_proj", kv, self.hidden),
            ("self_attn.v_proj", kv, self.hidden),
            ("self_attn.o_proj", self.hidden, self.hidden),
            ("mlp.gate_proj", self.ffn, self.hidden),
            ("mlp.up_proj", self.ffn, self.hidden),
            ("mlp.down_proj", self.hidden, self.ffn),
        ]
    }

    /// The norms of a block: name, width.
    #[must_use]
    pub fn norms(&self) -> [(&'static str, usize); 4] {
        [
            ("input_layernorm", self.hidden),
            ("self_attn.attn_sub_norm", self.hidden),
            ("post_attention_layernorm", self.hidden),
            ("mlp.ffn_sub_norm", self.ffn),
        ]
    }

    /// Every weight by its name in a Hugging Face folder, with its dimensions, in a fixed order.
    #[must_use]
    pub fn weights(&self) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab, self.hidden])];
        for layer in 0..self.layers {
            let name = |part| format!("model.layers.{layer}.{part}.weight");
            all.extend(self.linears().map(|(part, rows, cols)| (name(part), vec![rows, cols])));
            all.extend(self.norms().map(|(part, width)| (name(part), vec![width])));
        }
        all.push(("model.norm.weight".to_owned(), vec![self.hidden]));
        all
    }
}

/// Whether a weight, by its name, is a linear layer's of a block.
#[must_use]
pub fn is_linear(name: &str) -> bool {
    name.ends_with("_proj.weight")
}

/// Deviation of the first weights.
const DEVIATION: f32 = 0.02;

/// A model and its weights.
#[derive(Clone, Debug)]
pub struct Model {
    /// The shape.
    pub shape: Shape,
    /// Which twin it is.
    pub mode: Mode,
    /// Weights by name: the ternary twin's linear layers are master weights.
    pub weights: BTreeMap<String, Var>,
    angles: Arc<Angles>,
}

impl Model {
    /// The model of `seed` before training: the same weights in either mode, moved in their last bits by `nudge` ([`Plan::nudge`]).
    ///
    /// [`Plan::nudge`]: crate::train::Plan::nudge
    ///
    /// # Errors
    /// What candle says.
    pub fn new(shape: Shape, mode: Mode, seed: u64, nudge: Option<u64>) -> Result<Self> {
        let mut random = Random::new(seed, "weights");
        let mut nudge = nudge.map(|seed| Random::new(seed, "nudge"));
        let mut weights = BTreeMap::new();
        for (name, dims) in shape.weights() {
            let count = dims.iter().product();
            // What is added to the residual stream starts smaller, the more there is of it.
            let narrow = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
            let deviation = if narrow { DEVIATION / (2.0 * shape.layers as f32).sqrt() } else { DEVIATION };
            let mut values: Vec<f32> = match dims.len() {
                1 => vec![1.0; count],
                _ => (0..count).map(|_| random.normal() * deviation).collect(),
            };
            if let Some(nudge) = &mut nudge {
                values.iter_mut().for_each(|value| *value *= 1.0 + (nudge.between(0, 2) as f32 - 1.0) / 4_194_304.0);
            }
            weights.insert(name, Var::from_vec(values, dims, &Device::Cpu)?);
        }
        Ok(Self::with(shape, mode, weights))
    }

    /// The model of given weights.
    #[must_use]
    pub fn with(shape: Shape, mode: Mode, weights: BTreeMap<String, Var>) -> Self {
        let angles = Angles::new(shape.head(), shape.context, shape.theta);
        Self { shape, mode, weights, angles }
    }

    fn weight(&self, name: &str) -> Result<&Tensor> {
        match self.weights.get(name) {
            Some(var) => Ok(var.as_tensor()),
            None => candle_core::bail!("no weight {name}"),
        }
    }

    /// The activations as the linear layers of this twin take them.
    fn activations(&self, x: &Tensor) -> Result<Tensor> {
        match self.mode {
            Mode::Ternary => int8(x),
            Mode::Fp16 => Ok(x.clone()),
        }
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let weight = self.weight(&format!("{name}.weight"))?;
        match self.mode {
            Mode::Ternary => x.matmul(&ternary(weight)?.t()?),
            Mode::Fp16 => x.matmul(&weight.t()?),
        }
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        rms_norm(x, self.weight(&format!("{name}.weight"))?, self.shape.eps)
    }

    /// Logits of every token, `[tokens, vocabulary]`.
    ///
    /// # Errors
    /// A token beyond the vocabulary, a row beyond the context.
    pub fn forward(&self, batch: &Batch) -> Result<Tensor> {
        let (shape, time) = (&self.shape, batch.time);
        let plan = Plan {
            heads: shape.heads,
            kv_heads: shape.kv_heads,
            head: shape.head(),
            time,
            starts: batch.starts.clone(),
        };
        let ids = Tensor::new(batch.tokens.as_slice(), &Device::Cpu)?;
        let embedding = self.weight("model.embed_tokens.weight")?;
        let mut x = embedding.index_select(&ids, 0)?;
        for layer in 0..shape.layers {
            let at = |part: &str| format!("model.layers.{layer}.{part}");
            let normed = self.activations(&self.norm(&x, &at("input_layernorm"))?)?;
            let q = rope(&self.linear(&normed, &at("self_attn.q_proj"))?, &self.angles, time)?;
            let k = rope(&self.linear(&normed, &at("self_attn.k_proj"))?, &self.angles, time)?;
            let v = self.linear(&normed, &at("self_attn.v_proj"))?;
            let mixed = self.norm(&attention(&q, &k, &v, &plan)?, &at("self_attn.attn_sub_norm"))?;
            x = (x + self.linear(&self.activations(&mixed)?, &at("self_attn.o_proj"))?)?;
            let normed = self.activations(&self.norm(&x, &at("post_attention_layernorm"))?)?;
            let gate = self.linear(&normed, &at("mlp.gate_proj"))?;
            let inside = relu2_gate(&gate, &self.linear(&normed, &at("mlp.up_proj"))?)?;
            let inside = self.norm(&inside, &at("mlp.ffn_sub_norm"))?;
            x = (x + self.linear(&self.activations(&inside)?, &at("mlp.down_proj"))?)?;
        }
        self.norm(&x, "model.norm")?.matmul(&embedding.t()?)
    }
}
