//! The shape of a model and the choices in which architectures differ.

use crate::error::{Error, Result};

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
    /// Ternary weights, int8 activations (W1.58A8).
    Ternary,
    /// f16 weights, f32 activations.
    F16,
    /// bf16 weights, f32 activations.
    Bf16,
    /// The function as the model defines it, in plain loops over f32 weights: of ternary weights with int8 activations,
    /// of others without. What the other formats are held against; slow, and of four bytes a weight.
    Reference,
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
        let divisor = format!("a divisor of the {} heads", self.heads);
        require("kv_heads", self.heads.is_multiple_of(self.kv_heads), divisor, self.kv_heads)?;
        require("head_dim", self.head_dim.is_multiple_of(2), "an even number".into(), self.head_dim)?;
        let q_width = self.heads.checked_mul(self.head_dim).is_some_and(|width| width <= MAX_COUNT);
        require("head_dim", q_width, format!("heads * head_dim of at most {MAX_COUNT}"), self.head_dim)?;
        let eps = self.norm_eps.is_finite() && self.norm_eps >= 0.0;
        require("norm_eps", eps, "a finite number from 0 up".into(), self.norm_eps)?;
        let theta = self.rope_theta.is_finite() && self.rope_theta > 0.0;
        require("rope_theta", theta, "a finite number above 0".into(), self.rope_theta)
    }
}

fn require(field: &'static str, holds: bool, expected: String, found: impl ToString) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { field, expected, found: found.to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Config {
        Config {
            arch: Architecture::BitNet,
            hidden: 96,
            ffn: 200,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 24,
            vocab: 50,
            norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope: RopeStyle::Neox,
            activation: Activation::Relu2,
            sub_norms: true,
            context: 64,
            tied: true,
        }
    }

    #[test]
    fn errors_name_the_field() {
        assert!(sound().validate().is_ok());
        type Fault = (&'static str, fn(&mut Config));
        let faults: [Fault; 8] = [
            ("hidden", |c| c.hidden = 0),
            ("vocab", |c| c.vocab = usize::MAX),
            ("kv_heads", |c| c.kv_heads = 3),
            ("head_dim", |c| c.head_dim = 25),
            ("head_dim", |c| (c.heads, c.kv_heads, c.head_dim) = (1 << 20, 1, 1 << 20)),
            ("norm_eps", |c| c.norm_eps = f32::NAN),
            ("norm_eps", |c| c.norm_eps = -1.0),
            ("rope_theta", |c| c.rope_theta = 0.0),
        ];
        for (field, fault) in faults {
            let mut config = sound();
            fault(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(field), "{error} should name {field}");
        }
    }
}
