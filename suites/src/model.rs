//! Models and engines as the definitions name them, and what a model needs before it is made.

use crate::cell::{Cell, KvCache};
use crate::error::{Error, nearest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Block structure, as in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// BitNet b1.58: attention and feed-forward sub-norms, ternary linear layers.
    Bitnet,
    /// LLaMA: no sub-norms.
    Llama,
}

/// Feed-forward gate activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// max(x, 0)².
    Relu2,
}

/// Element type of embedding and output head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadType {
    /// 2 bytes a weight.
    F16,
    /// 34 bytes a block of 32 weights.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// 210 bytes a super-block of 256 weights.
    #[serde(rename = "q6_k")]
    Q6K,
}

impl HeadType {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            HeadType::F16 => "f16",
            HeadType::Q8_0 => "q8_0",
            HeadType::Q6K => "q6_k",
        }
    }

    /// Bytes `weights` weights take.
    pub fn bytes(self, weights: u64) -> u64 {
        match self {
            HeadType::F16 => weights * 2,
            HeadType::Q8_0 => weights.div_ceil(32) * 34,
            HeadType::Q6K => weights.div_ceil(256) * 210,
        }
    }
}

/// A model made in memory from a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Name in suites and on the command line.
    pub name: String,
    /// Block structure.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width of the feed-forward layer.
    pub ffn: u32,
    /// Number of blocks.
    pub layers: u32,
    /// Query heads.
    pub heads: u32,
    /// Key/value heads (grouped-query attention when fewer than `heads`).
    pub kv_heads: u32,
    /// Vocabulary size.
    pub vocab: u32,
    /// Feed-forward gate activation.
    pub activation: Activation,
    /// Whether the output head is the embedding.
    pub tied: bool,
    /// Element type of embedding and head.
    pub head: HeadType,
    /// RoPE base.
    pub rope_theta: f64,
    /// Longest context, in tokens.
    pub context: u32,
    /// Seed of the weights.
    pub seed: u64,
    /// Share of feed-forward gates that are 0 or less, set by weights made for it; about half without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_zeros: Option<f64>,
    /// Where the shape comes from.
    pub source: String,
}

/// A model in a GGUF file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Name in suites and on the command line.
    pub name: String,
    /// File name, looked for in the data folder.
    pub file: String,
    /// SHA-256 of the file in hexadecimal.
    pub sha256: String,
    /// How to get it, shown when it is missing.
    pub fetch: String,
    /// Size of the dequantised f16 weights in bytes, for planning.
    pub f16_bytes: u64,
    /// Longest context the file allows, in tokens, for planning.
    #[serde(default)]
    pub context: Option<u32>,
    /// KV-cache elements (keys and values of all layers) per position, for planning.
    pub kv_per_position: u64,
    /// What it is and where it comes from.
    pub source: String,
}

/// A model that a suite can name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum ModelSpec {
    /// Made in memory from a seed.
    Synthetic(Shape),
    /// Read from a GGUF file.
    File(ModelFile),
}

/// How a local engine keeps its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightFormat {
    /// W1.58A8, two bits a weight.
    Ternary,
    /// The same function and bits, five weights a byte.
    #[serde(rename = "ternary-1.6")]
    Base3,
    /// The same function and bits of a ReLU² model, what lies behind zero gates left unread.
    #[serde(rename = "ternary-sparse")]
    TernarySparse,
    /// As `TernarySparse`, with all that is read whole at five weights a byte.
    #[serde(rename = "ternary-sparse-1.6")]
    Base3Sparse,
    /// 16-bit floating point, f32 accumulation.
    F16,
    /// The same in bfloat16.
    Bf16,
    /// The model's function in plain f32 loops: what the others are held against.
    Reference,
}

impl WeightFormat {
    /// Whether linear layers are ternary by construction, of int8 activations: a model whose weights are not has none.
    pub fn is_ternary(self) -> bool {
        matches!(self, WeightFormat::Ternary | WeightFormat::Base3) || self.is_sparse()
    }

    /// Whether what lies behind zero gates stays unread.
    pub fn is_sparse(self) -> bool {
        matches!(self, WeightFormat::TernarySparse | WeightFormat::Base3Sparse)
    }
}

/// How an engine chooses a token in decode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeadMode {
    /// From all logits, by the whole head.
    #[default]
    Full,
    /// By a copy of the f16 head with a proven bound: of few rows is more read, and the token is the same.
    Bounded,
}

impl HeadMode {
    /// Whether all logits are computed.
    pub fn is_full(&self) -> bool {
        *self == HeadMode::Full
    }
}

/// An engine that a suite can name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// Name in suites and on the command line.
    pub name: String,
    /// Linear-layer format of the project's own engine.
    pub format: WeightFormat,
    /// How decode chooses a token.
    #[serde(default, skip_serializing_if = "HeadMode::is_full")]
    pub head: HeadMode,
    /// The engine that computes the same function of a synthetic model, whose logits must agree.
    pub pair: Option<String>,
    /// One line for `list`.
    pub about: String,
}

/// Weight bytes by part, as the panel packing holds them (rows in panels of 16, columns padded to whole blocks
/// where packed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightBytes {
    /// All linear layers of all blocks.
    pub linear: u64,
    /// Embedding, and the head where it is a matrix of its own.
    pub embedding: u64,
}

impl Shape {
    /// Width of a head. Validated to be a whole, even number.
    pub fn head_dim(&self) -> u32 {
        self.hidden / self.heads
    }

    /// Rows × columns of every linear layer of one block.
    pub fn block_linears(&self) -> [(u64, u64); 7] {
        let (h, f) = (u64::from(self.hidden), u64::from(self.ffn));
        let kv = u64::from(self.kv_heads * self.head_dim());
        [(h, h), (kv, h), (kv, h), (h, h), (f, h), (f, h), (h, f)]
    }

    /// Weights in the linear layers, embedding and head left out.
    pub fn linear_params(&self) -> u64 {
        u64::from(self.layers) * self.block_linears().iter().map(|(n, k)| n * k).sum::<u64>()
    }

    /// Predicted weight bytes in `format`.
    pub fn weight_bytes(&self, format: WeightFormat) -> WeightBytes {
        let packed = |n: u64, k: u64| match format {
            WeightFormat::Ternary | WeightFormat::TernarySparse => n.next_multiple_of(16) * k.next_multiple_of(16) / 4,
            WeightFormat::Base3 | WeightFormat::Base3Sparse => n.next_multiple_of(16) * k.next_multiple_of(20) / 5,
            WeightFormat::F16 => n.next_multiple_of(16) * k * 2,
            WeightFormat::Bf16 => n.next_multiple_of(16) * k.next_multiple_of(2) * 2,
            WeightFormat::Reference => n * k * 4,
        };
        let (vocab, hidden, ffn) = (u64::from(self.vocab), u64::from(self.hidden), u64::from(self.ffn));
        // Rows of `up` and columns of `down`, each `hidden` weights in whole chunks of 64 bytes.
        let second = if format.is_sparse() { 2 * ffn * hidden.div_ceil(256) * 64 } else { 0 };
        let block = self.block_linears().iter().map(|&(n, k)| packed(n, k)).sum::<u64>() + second;
        let linear = block * u64::from(self.layers);
        let packed_head = self.head.bytes(vocab.next_multiple_of(16) * hidden);
        // The reference unpacks it: both are there while it does.
        let one = if format == WeightFormat::Reference { packed_head + vocab * hidden * 4 } else { packed_head };
        WeightBytes { linear, embedding: if self.tied { one } else { 2 * one } }
    }

    /// Predicted weight bytes that decoding one token reads in `format`: linear layers and head, of the embedding one row. Of a sparse
    /// format, whose second copies are read in place of the first as values decide, the most that it can be.
    pub fn read_per_token_bytes(&self, format: WeightFormat) -> u64 {
        let bytes = self.weight_bytes(format);
        bytes.linear + if self.tied { bytes.embedding } else { bytes.embedding / 2 }
    }

    /// Predicted bytes of a bounded copy of the head, both levels: codes, and what goes with each group of 256 columns.
    pub fn bounded_bytes(&self) -> u64 {
        let (vocab, groups) = (u64::from(self.vocab), u64::from(self.hidden).div_ceil(256));
        let first = u64::from(self.hidden).next_multiple_of(32) / 2 + 4 * groups + 4 + 32;
        let second = (128 * groups + 4 * groups.next_multiple_of(8)).next_multiple_of(64);
        vocab.next_multiple_of(16) * (first + second)
    }

    /// Checks what serde can't: ranges and divisibility.
    pub fn validate(&self, origin: &str) -> Result<(), Error> {
        let bad = |key: &str, expected: &str, found: String| {
            Err(Error::Value {
                origin: origin.to_owned(),
                key: format!("model `{}`: {key}", self.name),
                expected: expected.to_owned(),
                found,
            })
        };
        for (key, value, most) in [
            ("hidden", self.hidden, 1 << 17),
            ("ffn", self.ffn, 1 << 19),
            ("layers", self.layers, 1024),
            ("heads", self.heads, 4096),
            ("kv_heads", self.kv_heads, 4096),
            ("vocab", self.vocab, 1 << 22),
            ("context", self.context, 1 << 20),
        ] {
            if value == 0 || value > most {
                return bad(key, &format!("1 to {most}"), value.to_string());
            }
        }
        if !self.hidden.is_multiple_of(self.heads) || !self.head_dim().is_multiple_of(2) {
            return bad("heads", "a divisor of hidden that leaves an even head width", self.heads.to_string());
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return bad("kv_heads", "a divisor of heads", self.kv_heads.to_string());
        }
        if self.head == HeadType::Q8_0 && !self.hidden.is_multiple_of(32) {
            return bad("head", "f16, as hidden is no multiple of 32", "q8_0".to_owned());
        }
        if self.head == HeadType::Q6K && !self.hidden.is_multiple_of(256) {
            return bad("head", "f16, as hidden is no multiple of 256", "q6_k".to_owned());
        }
        if let Some(share) = self.gate_zeros
            && !((0.0..=0.99).contains(&share)
                && self.activation == Activation::Relu2
                && self.family == Family::Bitnet
                && self.hidden >= 64)
        {
            let expected = "0 to 0.99, in a bitnet model with relu2 and hidden of 64 or more";
            return bad("gate_zeros", expected, share.to_string());
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 1.0) {
            return bad("rope_theta", "a finite number over 1", self.rope_theta.to_string());
        }
        Ok(())
    }
}

/// Room for code, tables, activations of the vocabulary and the allocator's slack.
const PROCESS_OVERHEAD: u64 = 48 << 20;
/// Largest batch the engine runs at once; longer prompts go in pieces.
pub const MAX_BATCH: u64 = 512;

impl ModelSpec {
    /// The name suites use.
    pub fn name(&self) -> &str {
        match self {
            ModelSpec::Synthetic(shape) => &shape.name,
            ModelSpec::File(file) => &file.name,
        }
    }

    /// The longest context the model allows, where it is known before loading.
    pub fn context(&self) -> Option<u32> {
        match self {
            ModelSpec::Synthetic(shape) => Some(shape.context),
            ModelSpec::File(file) => file.context,
        }
    }

    /// Predicted packed weight bytes.
    pub fn weight_bytes(&self, format: WeightFormat) -> u64 {
        match self {
            ModelSpec::Synthetic(shape) => {
                let bytes = shape.weight_bytes(format);
                bytes.linear + bytes.embedding
            }
            ModelSpec::File(file) if format == WeightFormat::Reference => file.f16_bytes * 2,
            ModelSpec::File(file) => file.f16_bytes,
        }
    }

    /// Predicted bytes of all that `engine` holds of the weights.
    pub fn engine_bytes(&self, engine: &EngineSpec) -> u64 {
        let copy = match (engine.head, self) {
            (HeadMode::Full, _) => 0,
            (HeadMode::Bounded, ModelSpec::Synthetic(shape)) => shape.bounded_bytes(),
            // No more than half of the head, which is no more than all of it.
            (HeadMode::Bounded, ModelSpec::File(file)) => file.f16_bytes / 2,
        };
        self.weight_bytes(engine.format) + copy
    }

    /// Predicted KV-cache bytes for `positions` tokens.
    pub fn kv_bytes(&self, positions: u32, kv: KvCache) -> u64 {
        let (elements, heads) = match self {
            ModelSpec::Synthetic(s) => {
                let heads = u64::from(s.layers) * u64::from(s.kv_heads);
                (2 * heads * u64::from(s.head_dim()), heads)
            }
            // Heads of a file's model are not known here: of at least 32 values.
            ModelSpec::File(file) => (file.kv_per_position, file.kv_per_position / 64),
        };
        (elements * kv.bytes() + heads * kv.scale_bytes()) * u64::from(positions)
    }

    /// Predicted peak resident memory of a worker running `cell` on this model by `engine`.
    pub fn predict_bytes(&self, cell: &Cell, engine: &EngineSpec) -> u64 {
        let batch = match cell.workload.phase {
            crate::cell::Phase::Prefill => u64::from(cell.workload.tokens),
            crate::cell::Phase::Decode => u64::from(cell.workload.depth()),
        }
        .min(MAX_BATCH);
        let per_token = match self {
            ModelSpec::Synthetic(s) => 4 * (u64::from(s.hidden) * 8 + u64::from(s.ffn) * 4),
            ModelSpec::File(_) => 1 << 16,
        };
        self.engine_bytes(engine)
            + self.kv_bytes(cell.workload.context(), cell.kv)
            + batch.max(32) * per_token
            + PROCESS_OVERHEAD
    }
}

/// Adds "did you mean" to a TOML error about an unknown key or variant, whose message lists what was expected.
pub(crate) fn with_hint(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    let Some(found) = quoted.by_ref().find(|_| unknown) else { return message.to_owned() };
    // The caret lines may quote too, so only names after the word "expected" count.
    let expected = message.split_once("expected").map_or("", |(_, rest)| rest);
    let found = message
        .split_once("unknown field `")
        .or_else(|| message.split_once("unknown variant `"))
        .and_then(|(_, rest)| rest.split_once('`'))
        .map_or(found, |(name, _)| name);
    match nearest(found, expected.split('`').skip(1).step_by(2)) {
        Some(name) => format!("{} (did you mean `{name}`?)", message.trim_end()),
        None => message.trim_end().to_owned(),
    }
}
