//! The shape of a model and the choices in which architectures differ.

use crate::error::{Error, Result};
use crate::quant::MAX_COLS;

/// The model families that the one model code serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// LLaMA: RMSNorm, RoPE, grouped-query attention, gated feed-forward.
    Llama,
    /// BitNet b1.58: the same, commonly with ReLU² and sub-norms.
    BitNet,
}

/// Which two values of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// (i, i + d/2): Hugging Face's `rotate_half`.
    Neox,
    /// (2i, 2i + 1): the paper's, and GGUF's `llama` (whose rows are permuted to match).
    Interleaved,
}

/// The function applied to the feed-forward gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)^2`.
    Relu2,
}

/// What the linear layers of a model are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Ternary weights at 2 bits, int8 activations (W1.58A8).
    Ternary,
    /// The same function and bits as `Ternary`, at five weights a byte.
    Base3,
    /// The same function and bits as `Ternary`, of a ReLU² model: what lies behind zero gates stays unread.
    TernarySparse,
    /// As `TernarySparse`, with all that is read whole at five weights a byte.
    Base3Sparse,
    /// f16 weights, f32 activations.
    F16,
    /// bf16 weights and activations.
    Bf16,
    /// The function as the model defines it, in plain loops over f32 weights: of ternary weights with int8 activations,
    /// of others without. What the other formats are held against; slow, and of four bytes a weight.
    Reference,
}

impl Format {
    /// Whether the linear layers of blocks are ternary by construction, whatever packs them.
    pub(crate) fn is_ternary(self) -> bool {
        matches!(self, Format::Ternary | Format::TernarySparse) || self.is_base3()
    }

    /// Whether what lies behind zero gates stays unread.
    pub fn is_sparse(self) -> bool {
        matches!(self, Format::TernarySparse | Format::Base3Sparse)
    }

    /// Whether ternary weights that are read whole are held at five a byte.
    pub(crate) fn is_base3(self) -> bool {
        matches!(self, Format::Base3 | Format::Base3Sparse)
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The family.
    pub arch: Architecture,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward's inside.
    pub ffn: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; fewer than `heads` is grouped-query attention.
    pub kv_heads: usize,
    /// Values of a head; even.
    pub head_dim: usize,
    /// Tokens known.
    pub vocab: usize,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// RoPE's base frequency.
    pub rope_theta: f64,
    /// RoPE's pairs.
    pub rope: RopeStyle,
    /// Divisors of RoPE's frequencies, one a pair of a head; empty if RoPE is not scaled. Linear scaling is one factor
    /// throughout; for LLaMA 3's see [`Llama3Scaling`].
    pub rope_factors: Vec<f32>,
    /// Queries, keys and values have biases (Qwen2).
    pub attention_bias: bool,
    /// The attention's output has a bias (LLaMA with `attention_bias`).
    pub output_bias: bool,
    /// RMSNorm of each head's query and key before RoPE (Qwen3).
    pub qk_norm: bool,
    /// A query sees this many positions, its own the last (Mistral); `None`: all before it.
    pub sliding_window: Option<usize>,
    /// The feed-forward gate.
    pub activation: Activation,
    /// RMSNorm before the attention output and the down projection (BitNet b1.58).
    pub sub_norms: bool,
    /// The longest context the model was made for.
    pub context: usize,
    /// The output head is the embedding matrix.
    pub tied: bool,
}

/// Largest value of any count in a configuration: far above every model there is, far below overflow of products of two.
const MAX_COUNT: usize = 1 << 28;

impl Config {
    /// Values of all query heads together.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share one key/value head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The norm weights and biases of a block by their GGUF names, and the length of each; `None` where this model has
    /// none.
    pub(crate) fn vectors(&self) -> [(&'static str, Option<usize>); 10] {
        let (hidden, q, kv, dim, ffn) = (self.hidden, self.q_width(), self.kv_width(), self.head_dim, self.ffn);
        let bias = |width| self.attention_bias.then_some(width);
        [
            ("attn_norm.weight", Some(hidden)),
            ("attn_q.bias", bias(q)),
            ("attn_k.bias", bias(kv)),
            ("attn_v.bias", bias(kv)),
            ("attn_q_norm.weight", self.qk_norm.then_some(dim)),
            ("attn_k_norm.weight", self.qk_norm.then_some(dim)),
            ("attn_sub_norm.weight", self.sub_norms.then_some(q)),
            ("attn_output.bias", self.output_bias.then_some(hidden)),
            ("ffn_norm.weight", Some(hidden)),
            ("ffn_sub_norm.weight", self.sub_norms.then_some(ffn)),
        ]
    }

    /// Whether a model of this shape can be made in `format`.
    ///
    /// # Errors
    /// [`Error::Config`] for a sparse format without ReLU²: nothing else makes zeros.
    pub(crate) fn check_format(&self, format: Format) -> Result<()> {
        let zeros = !format.is_sparse() || self.activation == Activation::Relu2;
        let expected = "relu2, as the sparse engine reads less where a gate is 0".to_owned();
        require("activation", zeros, expected, "silu")
    }

    /// Checks that the fields are sane and fit together.
    ///
    /// # Errors
    /// [`Error::Config`], naming the first field that does not.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("hidden", self.hidden),
            ("ffn", self.ffn),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocab", self.vocab),
            ("context", self.context),
        ];
        for (field, value) in counts {
            require(field, (1..=MAX_COUNT).contains(&value), format!("1 to {MAX_COUNT}"), value)?;
        }
        // What a row of some matrix is long.
        for (field, width) in [("hidden", self.hidden), ("ffn", self.ffn)] {
            require(field, width <= MAX_COLS, format!("1 to {MAX_COLS}"), width)?;
        }
        let divisor = format!("a divisor of the {} heads", self.heads);
        require("kv_heads", self.heads.is_multiple_of(self.kv_heads), divisor, self.kv_heads)?;
        require("head_dim", self.head_dim.is_multiple_of(2), "an even number".into(), self.head_dim)?;
        let q_width = self.heads.checked_mul(self.head_dim).is_some_and(|width| width <= MAX_COLS);
        require("head_dim", q_width, format!("heads * head_dim of at most {MAX_COLS}"), self.head_dim)?;
        let eps = self.norm_eps.is_finite() && self.norm_eps >= 0.0;
        require("norm_eps", eps, "a finite number from 0 up".into(), self.norm_eps)?;
        let theta = self.rope_theta.is_finite() && self.rope_theta > 0.0;
        require("rope_theta", theta, "a finite number above 0".into(), self.rope_theta)?;
        let factors = &self.rope_factors;
        let count = format!("none, or {}: one a pair of a head", self.head_dim / 2);
        require("rope_factors", [0, self.head_dim / 2].contains(&factors.len()), count, factors.len())?;
        let bad = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0));
        require("rope_factors", bad.is_none(), "finite numbers above 0".into(), bad.unwrap_or(&0.0))?;
        let window = self.sliding_window.unwrap_or(1);
        require("sliding_window", window > 0, "none, or at least 1 position".into(), window)
    }
}

/// How LLaMA 3.1 and later stretch RoPE (`rope_type` "llama3"): fast pairs stay, slow ones turn `factor` times slower,
/// those between change smoothly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// What the slowest pairs' frequencies are divided by.
    pub factor: f64,
    /// Pairs that turn fewer times than this over the original context are slow.
    pub low_freq_factor: f64,
    /// Pairs that turn more times than this over the original context are fast.
    pub high_freq_factor: f64,
    /// The context length before stretching (`original_max_position_embeddings`).
    pub original_context: usize,
}

impl Llama3Scaling {
    /// [`Config::rope_factors`] for heads of `head_dim` and base frequency `theta`. The formula is that of transformers'
    /// `_compute_llama3_parameters`; GGUF files hold the outcome as `rope_freqs.weight`.
    ///
    /// # Errors
    /// [`Error::Config`] if a parameter makes no sense.
    pub fn factors(&self, head_dim: usize, theta: f64) -> Result<Vec<f32>> {
        let Llama3Scaling { factor, low_freq_factor: low, high_freq_factor: high, original_context } = *self;
        let positive = |x: f64| x.is_finite() && x > 0.0;
        require("rope_scaling.factor", positive(factor), "a finite number above 0".into(), factor)?;
        require("rope_scaling.low_freq_factor", positive(low), "a finite number above 0".into(), low)?;
        let above = format!("a finite number above low_freq_factor, {low}");
        require("rope_scaling.high_freq_factor", high.is_finite() && high > low, above, high)?;
        let context = (1..=MAX_COUNT).contains(&original_context);
        let expected = format!("1 to {MAX_COUNT}");
        require("rope_scaling.original_max_position_embeddings", context, expected, original_context)?;
        let divisor = |pair: usize| {
            let frequency = theta.powf(-2.0 * pair as f64 / head_dim as f64);
            let turns = original_context as f64 * frequency / std::f64::consts::TAU;
            let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            1.0 / ((1.0 - fast) / factor + fast)
        };
        Ok((0..head_dim / 2).map(|pair| divisor(pair) as f32).collect())
    }
}

fn require(field: &'static str, holds: bool, expected: String, found: impl ToString) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, expected, found: found.to_string() }) }
}

impl Config {
    /// A small BitNet b1.58 model's shape, which tests, benches and examples alter.
    pub fn small() -> Config {
        Config {
            arch: Architecture::BitNet,
            hidden: 64,
            ffn: 96,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            vocab: 100,
            norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope: RopeStyle::Neox,
            rope_factors: Vec::new(),
            attention_bias: false,
            output_bias: false,
            qk_norm: false,
            sliding_window: None,
            activation: Activation::Relu2,
            sub_norms: true,
            context: 64,
            tied: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Config {
        Config { hidden: 96, ffn: 200, head_dim: 24, vocab: 50, ..Config::small() }
    }

    #[test]
    fn errors_name_the_field() {
        assert!(sound().validate().is_ok());
        type Fault = (&'static str, fn(&mut Config));
        let faults: [Fault; 15] = [
            ("hidden", |c| c.hidden = 0),
            ("hidden", |c| c.hidden = MAX_COLS + 1),
            ("ffn", |c| c.ffn = MAX_COLS + 1),
            ("head_dim", |c| (c.heads, c.kv_heads, c.head_dim) = (2, 1, MAX_COLS)),
            ("vocab", |c| c.vocab = usize::MAX),
            ("kv_heads", |c| c.kv_heads = 3),
            ("head_dim", |c| c.head_dim = 25),
            ("head_dim", |c| (c.heads, c.kv_heads, c.head_dim) = (1 << 20, 1, 1 << 20)),
            ("norm_eps", |c| c.norm_eps = f32::NAN),
            ("norm_eps", |c| c.norm_eps = -1.0),
            ("rope_theta", |c| c.rope_theta = 0.0),
            ("rope_factors", |c| c.rope_factors = vec![1.0; 11]),
            ("rope_factors", |c| c.rope_factors = vec![0.0; 12]),
            ("rope_factors", |c| c.rope_factors = vec![f32::NAN; 12]),
            ("sliding_window", |c| c.sliding_window = Some(0)),
        ];
        for (field, fault) in faults {
            let mut config = sound();
            fault(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error} should name {field}");
        }
    }

    const LLAMA32: Llama3Scaling =
        Llama3Scaling { factor: 32.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };

    /// LLaMA 3.2 1B's, against `_compute_llama3_parameters` of transformers 5.24 (the unscaled over its frequencies).
    #[test]
    fn llama3_factors_are_those_published() {
        let factors = LLAMA32.factors(64, 500_000.0).unwrap();
        assert_eq!(factors.len(), 32);
        for (pair, factor) in factors.iter().enumerate() {
            let expected = match pair {
                0..=14 => 1.0,
                15 => 1.651329,
                16 => 3.292263,
                17 => 9.666731,
                _ => 32.0,
            };
            assert!((factor / expected - 1.0).abs() < 1e-5, "{pair}: {factor}, not {expected}");
        }
    }

    #[test]
    fn llama3_scaling_that_makes_no_sense_is_refused() {
        for (field, scaling) in [
            ("factor", Llama3Scaling { factor: 0.0, ..LLAMA32 }),
            ("low_freq_factor", Llama3Scaling { low_freq_factor: f64::NAN, ..LLAMA32 }),
            ("high_freq_factor", Llama3Scaling { high_freq_factor: 1.0, ..LLAMA32 }),
            ("original_max_position_embeddings", Llama3Scaling { original_context: 0, ..LLAMA32 }),
        ] {
            let error = scaling.factors(64, 500_000.0).unwrap_err().to_string();
            assert!(error.contains(field), "{error} should name {field}");
        }
    }
}
