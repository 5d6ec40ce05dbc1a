//! GGUF file to [`Model`].
//!
//! The f16 engine holds a file's weights decoded and rounded to f16: of a quantised file it runs the dequantised
//! weights, which is still that file's function and not that of the model it was quantised from. Norms stay f32.
//!
//! Shapes are all checked before the first weight is decoded. Rows are decoded in parallel straight into the packed
//! matrices, so beside the file's own mapping the peak is the finished model.

use half::f16;

use super::{Activation, Architecture, Config, Format, Layer, Model, RopeStyle};
use crate::error::{Error, Result};
use crate::formats::error::shown;
use crate::formats::gguf::{Shape, TensorInfo};
use crate::formats::{FormatError, GgufFile};
use crate::linear::Linear;
use crate::quant::F16Matrix;

/// The architectures that are loaded, for messages.
const KNOWN: &str = "llama";

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Makes a model of a GGUF file of architecture `llama`.
///
/// # Errors
/// [`Error::Format`] naming the metadata key or tensor that is missing, unknown or does not fit (shapes in the file's
/// order: `[inputs, outputs]`); for [`Format::Ternary`], that such a file holds no ternary tensors.
pub fn load_gguf(file: &GgufFile, format: Format) -> Result<Model> {
    let config = read_config(file)?;
    if format == Format::Ternary {
        return Err(no_ternary(file));
    }
    let loader = Loader { file, config: &config };
    loader.check()?;
    let embedding = loader.linear("token_embd.weight", config.vocab, config.hidden)?;
    let mut layers = Vec::new();
    for index in 0..config.layers {
        layers.push(loader.layer(index)?);
    }
    let output_norm = loader.norm("output_norm.weight")?;
    let head = match config.tied {
        true => None,
        false => Some(loader.linear("output.weight", config.vocab, config.hidden)?),
    };
    Model::new(config, embedding, layers, output_norm, head)
}

fn no_ternary(file: &GgufFile) -> Error {
    let linear = file.tensors().iter().find(|t| t.name() == "blk.0.attn_q.weight");
    let found = linear.map_or("none".to_owned(), |t| format!("{} tensors", t.kind()));
    let expected = "ternary linear layers for the ternary engine (the f16 engine runs this file)";
    file.wrong_key(ARCHITECTURE, expected, found).into()
}

/// The configuration, its values as the file has them and defaults as llama.cpp has them.
fn read_config(file: &GgufFile) -> Result<Config> {
    let arch = file.str(ARCHITECTURE)?;
    if arch != "llama" {
        let expected = format!("a known architecture ({KNOWN})");
        return Err(file.wrong_key(ARCHITECTURE, expected, shown(arch)).into());
    }
    let count = |key: &str| {
        let key = format!("llama.{key}");
        match file.u32(&key)? {
            0 => Err(file.wrong_key(&key, "a count of at least 1", "0")),
            count => Ok(count as usize),
        }
    };
    let heads = count("attention.head_count")?;
    let hidden = count("embedding_length")?;
    let kv_heads = file.opt_u32("llama.attention.head_count_kv")?.map_or(heads, |v| v as usize);
    let config = Config {
        arch: Architecture::Llama,
        hidden,
        ffn: count("feed_forward_length")?,
        layers: count("block_count")?,
        heads,
        kv_heads,
        head_dim: head_dim(file, hidden, heads)?,
        vocab: vocabulary(file)?,
        norm_eps: file.f32("llama.attention.layer_norm_rms_epsilon")?,
        rope_theta: f64::from(file.opt_f32("llama.rope.freq_base")?.unwrap_or(10_000.0)),
        rope: RopeStyle::Interleaved,
        activation: Activation::Silu,
        sub_norms: false,
        context: count("context_length")?,
        tied: file.tensor("output.weight").is_none(),
    };
    refuse_unsupported(file)?;
    config.validate().map_err(|error| match error {
        Error::Config { field, expected, found } => file.wrong_key(key_of(field), expected, found).into(),
        other => other,
    })?;
    Ok(config)
}

/// The metadata key that a field of [`Config`] is read from.
fn key_of(field: &str) -> &'static str {
    match field {
        "hidden" => "llama.embedding_length",
        "ffn" => "llama.feed_forward_length",
        "layers" => "llama.block_count",
        "heads" => "llama.attention.head_count",
        "kv_heads" => "llama.attention.head_count_kv",
        "head_dim" => "llama.attention.key_length",
        "vocab" => TOKENS,
        "norm_eps" => "llama.attention.layer_norm_rms_epsilon",
        "rope_theta" => "llama.rope.freq_base",
        _ => "llama.context_length",
    }
}

/// Values of a head: said outright, else the width parted among the heads; all three places must agree.
fn head_dim(file: &GgufFile, hidden: usize, heads: usize) -> Result<usize> {
    const HEADS: &str = "llama.attention.head_count";
    const KEY: &str = "llama.attention.key_length";
    let dim = match file.opt_u32(KEY)? {
        Some(dim) => dim as usize,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a divisor of the embedding length {hidden}");
            return Err(file.wrong_key(HEADS, expected, heads.to_string()).into());
        }
    };
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        match file.opt_u32(key)? {
            Some(other) if other as usize != dim => {
                let expected = format!("{dim}, the length of a head");
                return Err(file.wrong_key(key, expected, other.to_string()).into());
            }
            _ => {}
        }
    }
    Ok(dim)
}

/// The number of tokens: the embedding's rows, which must be the tokenizer's.
fn vocabulary(file: &GgufFile) -> Result<usize> {
    let Some(embedding) = file.tensor("token_embd.weight") else {
        return Err(missing(file, "token_embd.weight", "[embedding length, vocabulary]"));
    };
    let rows = embedding.rows();
    match file.array_len(TOKENS)? {
        Some(tokens) if tokens != rows => {
            let expected = format!("{rows} tokens, one a row of token_embd.weight");
            Err(file.wrong_key(TOKENS, expected, tokens.to_string()).into())
        }
        _ => Ok(rows),
    }
}

/// Refuses what would change the function and is not computed here.
fn refuse_unsupported(file: &GgufFile) -> Result<()> {
    const SCALING: &str = "llama.rope.scaling.type";
    match file.opt_str(SCALING)? {
        None | Some("none") => {}
        Some(other) => return Err(file.wrong_key(SCALING, "none (RoPE is not scaled)", shown(other)).into()),
    }
    // Without a type llama.cpp takes these for linear scaling.
    if file.opt_str(SCALING)?.is_none() {
        for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
            match file.opt_f32(key)? {
                None => {}
                Some(factor) if factor == 0.0 || factor == 1.0 => {}
                Some(other) => return Err(file.wrong_key(key, "1 (RoPE is not scaled)", other.to_string()).into()),
            }
        }
    }
    for key in ["llama.expert_count", "llama.attention.sliding_window"] {
        match file.opt_u32(key)? {
            None | Some(0) => {}
            Some(other) => return Err(file.wrong_key(key, "none", other.to_string()).into()),
        }
    }
    let Some(freqs) = file.tensor(ROPE_FREQS) else { return Ok(()) };
    for row in 0..freqs.rows() {
        let mut factors = vec![0.0; freqs.cols()];
        file.row_to_f32(freqs, row, &mut factors)?;
        if let Some(factor) = factors.iter().find(|&&f| f != 1.0) {
            let found = format!("a factor of {factor}");
            return Err(freqs.wrong(file.path(), "factors of 1 (RoPE frequencies are not scaled)", found).into());
        }
    }
    Ok(())
}

fn missing(file: &GgufFile, tensor: &str, expected: impl Into<String>) -> Error {
    let (path, tensor) = (file.path().to_owned(), tensor.to_owned());
    FormatError::MissingTensor { path, tensor, expected: expected.into() }.into()
}

struct Loader<'a> {
    file: &'a GgufFile,
    config: &'a Config,
}

impl Loader<'_> {
    /// The tensors of a block and their shapes in the file's order.
    fn block(&self) -> [(&'static str, Vec<u64>); 9] {
        let c = self.config;
        let shape = |inputs: usize, outputs: usize| vec![inputs as u64, outputs as u64];
        [
            ("attn_norm", vec![c.hidden as u64]),
            ("attn_q", shape(c.hidden, c.q_width())),
            ("attn_k", shape(c.hidden, c.kv_width())),
            ("attn_v", shape(c.hidden, c.kv_width())),
            ("attn_output", shape(c.q_width(), c.hidden)),
            ("ffn_norm", vec![c.hidden as u64]),
            ("ffn_gate", shape(c.hidden, c.ffn)),
            ("ffn_up", shape(c.hidden, c.ffn)),
            ("ffn_down", shape(c.ffn, c.hidden)),
        ]
    }

    /// Every tensor wanted is there in its shape, and no other is.
    fn check(&self) -> Result<()> {
        let matrix = vec![self.config.hidden as u64, self.config.vocab as u64];
        self.find("token_embd.weight", &matrix)?;
        let block = self.block();
        for index in 0..self.config.layers {
            for (part, shape) in &block {
                self.find(&format!("blk.{index}.{part}.weight"), shape)?;
            }
        }
        self.find("output_norm.weight", &matrix[..1])?;
        if !self.config.tied {
            self.find("output.weight", &matrix)?;
        }
        let known = |name: &str| {
            let outer = ["token_embd.weight", "output_norm.weight", "output.weight", ROPE_FREQS];
            let inner = || {
                let (index, part) = name.strip_prefix("blk.")?.split_once('.')?;
                let part = part.strip_suffix(".weight")?;
                let in_range = index.parse::<usize>().is_ok_and(|i| i < self.config.layers);
                Some(in_range && block.iter().any(|(name, _)| *name == part))
            };
            outer.contains(&name) || inner() == Some(true)
        };
        match self.file.tensors().iter().find(|t| !known(t.name())) {
            None => Ok(()),
            Some(other) => {
                let layers = self.config.layers;
                let expected = format!("only the tensors of a llama model of {layers} blocks");
                Err(other.wrong(self.file.path(), expected, "one that would go unused").into())
            }
        }
    }

    fn find(&self, name: &str, shape: &[u64]) -> Result<&TensorInfo> {
        let Some(tensor) = self.file.tensor(name) else {
            return Err(missing(self.file, name, Shape(shape).to_string()));
        };
        if tensor.dims() == shape {
            return Ok(tensor);
        }
        let found = Shape(tensor.dims()).to_string();
        Err(tensor.wrong(self.file.path(), Shape(shape).to_string(), found).into())
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let c = self.config;
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let linear = |part: &str, rows, cols| self.linear(&name(part), rows, cols);
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"))?,
            q: linear("attn_q", c.q_width(), c.hidden)?,
            k: linear("attn_k", c.kv_width(), c.hidden)?,
            v: linear("attn_v", c.kv_width(), c.hidden)?,
            attn_sub_norm: None,
            o: linear("attn_output", c.hidden, c.q_width())?,
            ffn_norm: self.norm(&name("ffn_norm"))?,
            gate: linear("ffn_gate", c.ffn, c.hidden)?,
            up: linear("ffn_up", c.ffn, c.hidden)?,
            ffn_sub_norm: None,
            down: linear("ffn_down", c.hidden, c.ffn)?,
        })
    }

    fn norm(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.find(name, &[self.config.hidden as u64])?;
        let mut weights = vec![0.0; tensor.cols()];
        self.file.row_to_f32(tensor, 0, &mut weights)?;
        Ok(weights)
    }

    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let tensor = self.find(name, &[cols as u64, rows as u64])?;
        let matrix = F16Matrix::from_rows(rows, cols, |row, out| {
            let mut values = vec![0.0; cols];
            self.file.row_to_f32(tensor, row, &mut values)?;
            for (col, (out, &value)) in out.iter_mut().zip(&values).enumerate() {
                *out = f16::from_f32(value);
                if !out.is_finite() {
                    let found = format!("{value} in row {row}, column {col}");
                    return Err(tensor.wrong(self.file.path(), "weights that fit f16", found).into());
                }
            }
            Ok(())
        })?;
        Ok(Linear::F16(matrix))
    }
}
