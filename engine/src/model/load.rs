//! GGUF file to [`Model`].
//!
//! The ternary engine takes ternary tensors (I2_S, TQ1_0, TQ2_0) as they are. The f16 engine holds a file's weights
//! decoded and rounded to f16: of a quantised file it runs the dequantised weights, which is still that file's function
//! and not that of the model it was quantised from. Norms stay f32.
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
use crate::quant::{F16Matrix, TernaryMatrix};

/// What sets an architecture of the family apart, by its name in GGUF files.
struct Family {
    /// `general.architecture`, and the prefix of its keys.
    name: &'static str,
    arch: Architecture,
    rope: RopeStyle,
    activation: Activation,
    sub_norms: bool,
}

/// The architectures that are loaded. llama.cpp's graphs: `build_llama`; `build_bitnet_158` of bitnet.cpp (BitNet b1.58
/// 2B4T, first called bitnet-25); `build_bitnet` (the 1bitLLM models, with SiLU).
static FAMILIES: [Family; 4] = [
    Family {
        name: "llama",
        arch: Architecture::Llama,
        rope: RopeStyle::Interleaved,
        activation: Activation::Silu,
        sub_norms: false,
    },
    Family {
        name: "bitnet-b1.58",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
    },
    Family {
        name: "bitnet-25",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
    },
    Family {
        name: "bitnet",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Silu,
        sub_norms: true,
    },
];

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Makes a model of a GGUF file of architecture `llama`, `bitnet-b1.58`, `bitnet-25` or `bitnet`.
///
/// # Errors
/// [`Error::Format`] naming the metadata key or tensor that is missing, unknown or does not fit (shapes in the file's
/// order: `[inputs, outputs]`); for [`Format::Ternary`], the first linear layer that is not ternary.
pub fn load_gguf(file: &GgufFile, format: Format) -> Result<Model> {
    let reader = Reader { file, family: family(file)? };
    let config = reader.config()?;
    let loader = Loader { file, config: &config, name: reader.family.name, format };
    loader.check()?;
    let embedding = loader.matrix("token_embd.weight", config.vocab, config.hidden)?;
    let mut layers = Vec::new();
    for index in 0..config.layers {
        layers.push(loader.layer(index)?);
    }
    let output_norm = loader.norm("output_norm.weight", config.hidden)?;
    let head = match config.tied {
        true => None,
        false => Some(loader.matrix("output.weight", config.vocab, config.hidden)?),
    };
    Model::new(config, embedding, layers, output_norm, head)
}

fn family(file: &GgufFile) -> Result<&'static Family> {
    let arch = file.str(ARCHITECTURE)?;
    FAMILIES.iter().find(|family| family.name == arch).ok_or_else(|| {
        let known = FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ");
        file.wrong_key(ARCHITECTURE, format!("a known architecture ({known})"), shown(arch)).into()
    })
}

/// Reads the configuration, its values as the file has them and defaults as llama.cpp has them.
struct Reader<'a> {
    file: &'a GgufFile,
    family: &'static Family,
}

impl Reader<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.family.name)
    }

    fn count(&self, key: &str) -> Result<usize> {
        let key = self.key(key);
        match self.file.u32(&key)? {
            0 => Err(self.file.wrong_key(&key, "a count of at least 1", "0").into()),
            count => Ok(count as usize),
        }
    }

    fn config(&self) -> Result<Config> {
        let (file, family) = (self.file, self.family);
        let heads = self.count("attention.head_count")?;
        let hidden = self.count("embedding_length")?;
        let kv_heads = file.opt_u32(&self.key("attention.head_count_kv"))?.map_or(heads, |v| v as usize);
        let config = Config {
            arch: family.arch,
            hidden,
            ffn: self.count("feed_forward_length")?,
            layers: self.count("block_count")?,
            heads,
            kv_heads,
            head_dim: self.head_dim(hidden, heads)?,
            vocab: vocabulary(file)?,
            norm_eps: file.f32(&self.key("attention.layer_norm_rms_epsilon"))?,
            rope_theta: f64::from(file.opt_f32(&self.key("rope.freq_base"))?.unwrap_or(10_000.0)),
            rope: family.rope,
            activation: family.activation,
            sub_norms: family.sub_norms,
            context: self.count("context_length")?,
            tied: file.tensor("output.weight").is_none(),
        };
        self.refuse_unsupported()?;
        config.validate().map_err(|error| match error {
            Error::Config { field: "vocab", expected, found } => file.wrong_key(TOKENS, expected, found).into(),
            Error::Config { field, expected, found } => {
                file.wrong_key(&self.key(key_of(field)), expected, found).into()
            }
            other => other,
        })?;
        Ok(config)
    }

    /// Values of a head: said outright, else the width parted among the heads; all three places must agree.
    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize> {
        let file = self.file;
        let dim = match file.opt_u32(&self.key("attention.key_length"))? {
            Some(dim) => dim as usize,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                let expected = format!("a divisor of the embedding length {hidden}");
                return Err(file.wrong_key(&self.key("attention.head_count"), expected, heads.to_string()).into());
            }
        };
        for key in ["attention.value_length", "rope.dimension_count"] {
            let key = self.key(key);
            match file.opt_u32(&key)? {
                Some(other) if other as usize != dim => {
                    let expected = format!("{dim}, the length of a head");
                    return Err(file.wrong_key(&key, expected, other.to_string()).into());
                }
                _ => {}
            }
        }
        Ok(dim)
    }

    /// Refuses what would change the function and is not computed here.
    fn refuse_unsupported(&self) -> Result<()> {
        let file = self.file;
        let scaling = self.key("rope.scaling.type");
        match file.opt_str(&scaling)? {
            None | Some("none") => {}
            Some(other) => {
                return Err(file.wrong_key(&scaling, "none (RoPE is not scaled)", shown(other)).into());
            }
        }
        // Without a type llama.cpp takes these for linear scaling.
        if file.opt_str(&scaling)?.is_none() {
            for key in ["rope.scaling.factor", "rope.scale_linear"] {
                let key = self.key(key);
                match file.opt_f32(&key)? {
                    None => {}
                    Some(factor) if factor == 0.0 || factor == 1.0 => {}
                    Some(other) => {
                        return Err(file.wrong_key(&key, "1 (RoPE is not scaled)", other.to_string()).into());
                    }
                }
            }
        }
        for key in ["expert_count", "attention.sliding_window"] {
            let key = self.key(key);
            match file.opt_u32(&key)? {
                None | Some(0) => {}
                Some(other) => return Err(file.wrong_key(&key, "none", other.to_string()).into()),
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
}

/// The metadata key, without its prefix, that a field of [`Config`] is read from.
fn key_of(field: &str) -> &'static str {
    match field {
        "hidden" => "embedding_length",
        "ffn" => "feed_forward_length",
        "layers" => "block_count",
        "heads" => "attention.head_count",
        "kv_heads" => "attention.head_count_kv",
        "head_dim" => "attention.key_length",
        "norm_eps" => "attention.layer_norm_rms_epsilon",
        "rope_theta" => "rope.freq_base",
        _ => "context_length",
    }
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

fn missing(file: &GgufFile, tensor: &str, expected: impl Into<String>) -> Error {
    let (path, tensor) = (file.path().to_owned(), tensor.to_owned());
    FormatError::MissingTensor { path, tensor, expected: expected.into() }.into()
}

struct Loader<'a> {
    file: &'a GgufFile,
    config: &'a Config,
    /// The architecture's name.
    name: &'static str,
    /// What the linear layers of the blocks become.
    format: Format,
}

impl Loader<'_> {
    /// The tensors of a block and their shapes in the file's order.
    fn block(&self) -> Vec<(&'static str, Vec<u64>)> {
        let c = self.config;
        let shape = |inputs: usize, outputs: usize| vec![inputs as u64, outputs as u64];
        let mut parts = vec![
            ("attn_norm", vec![c.hidden as u64]),
            ("attn_q", shape(c.hidden, c.q_width())),
            ("attn_k", shape(c.hidden, c.kv_width())),
            ("attn_v", shape(c.hidden, c.kv_width())),
            ("attn_output", shape(c.q_width(), c.hidden)),
            ("ffn_norm", vec![c.hidden as u64]),
            ("ffn_gate", shape(c.hidden, c.ffn)),
            ("ffn_up", shape(c.hidden, c.ffn)),
            ("ffn_down", shape(c.ffn, c.hidden)),
        ];
        if c.sub_norms {
            parts.extend([("attn_sub_norm", vec![c.q_width() as u64]), ("ffn_sub_norm", vec![c.ffn as u64])]);
        }
        parts
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
                let expected = format!("only the tensors of a {} model of {layers} blocks", self.name);
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
        let sub_norm = |part: &str, width| c.sub_norms.then(|| self.norm(&name(part), width)).transpose();
        Ok(Layer {
            attn_norm: self.norm(&name("attn_norm"), c.hidden)?,
            q: linear("attn_q", c.q_width(), c.hidden)?,
            k: linear("attn_k", c.kv_width(), c.hidden)?,
            v: linear("attn_v", c.kv_width(), c.hidden)?,
            attn_sub_norm: sub_norm("attn_sub_norm", c.q_width())?,
            o: linear("attn_output", c.hidden, c.q_width())?,
            ffn_norm: self.norm(&name("ffn_norm"), c.hidden)?,
            gate: linear("ffn_gate", c.ffn, c.hidden)?,
            up: linear("ffn_up", c.ffn, c.hidden)?,
            ffn_sub_norm: sub_norm("ffn_sub_norm", c.ffn)?,
            down: linear("ffn_down", c.hidden, c.ffn)?,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let tensor = self.find(name, &[width as u64])?;
        let mut weights = vec![0.0; tensor.cols()];
        self.file.row_to_f32(tensor, 0, &mut weights)?;
        Ok(weights)
    }

    /// A linear layer of a block, in the engine's format.
    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        match self.format {
            Format::F16 => self.matrix(name, rows, cols),
            Format::Ternary => self.ternary(name, rows, cols),
        }
    }

    fn ternary(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        let tensor = self.find(name, &[cols as u64, rows as u64])?;
        if !tensor.kind().is_ternary() {
            let expected =
                "a ternary tensor (I2_S, TQ1_0 or TQ2_0) for the ternary engine (the f16 engine runs this file)";
            return Err(tensor.wrong(self.file.path(), expected, tensor.kind().to_string()).into());
        }
        let scale = self.file.ternary_scale(tensor)?;
        let fill = |row: usize, trits: &mut [i8]| Ok(self.file.ternary_row(tensor, row, trits)?);
        TernaryMatrix::from_rows(rows, cols, scale, fill).map(Linear::Ternary)
    }

    /// Embedding, head, and linear layers of the f16 engine.
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
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
