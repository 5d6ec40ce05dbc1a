//! The configuration of a GGUF file, and its tensors as a source.

mod rope;

use self::rope::ROPE_FREQS;
use super::cache::{Cache, Fingerprint, ends, hash};
use super::{Blocks, CachedModel, Loader, Loading, Pages, Rows, Source, Weight, is_ternary, predict_bytes};
use crate::error::{Error, Result};
use crate::formats::bytes::Bytes;
use crate::formats::error::shown;
use crate::formats::gguf::{TensorInfo, TensorType};
use crate::formats::{FormatError, GgufFile};
use crate::model::{Activation, Architecture, Config, Format, Model, RopeStyle};
use crate::quant::Float16 as _;
use crate::quant::words::PackedTrits;
use std::ops::Range;
use std::path::Path;

/// What sets an architecture of the family apart, by its name in GGUF files.
struct Family {
    /// `general.architecture`, and the prefix of its keys.
    name: &'static str,
    arch: Architecture,
    rope: RopeStyle,
    activation: Activation,
    sub_norms: bool,
    /// RMSNorm of each head's query and key.
    qk_norm: bool,
    bias: Bias,
}

/// Whether an architecture's attention has biases.
#[derive(Clone, Copy, PartialEq)]
enum Bias {
    Never,
    /// Queries, keys and values; not the output.
    Inputs,
    /// As the file has them.
    Optional,
}

/// The architectures that are loaded. llama.cpp's graphs: `build_llama`; `build_bitnet_158` of bitnet.cpp (BitNet b1.58
/// 2B4T, first called bitnet-25); `build_bitnet` (the 1bitLLM models, with SiLU); `build_qwen2` (2.5 too), `build_qwen3`.
static FAMILIES: [Family; 6] = [
    Family {
        name: "llama",
        arch: Architecture::Llama,
        rope: RopeStyle::Interleaved,
        activation: Activation::Silu,
        sub_norms: false,
        qk_norm: false,
        bias: Bias::Optional,
    },
    Family {
        name: "bitnet-b1.58",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
        qk_norm: false,
        bias: Bias::Never,
    },
    Family {
        name: "bitnet-25",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Relu2,
        sub_norms: true,
        qk_norm: false,
        bias: Bias::Never,
    },
    Family {
        name: "bitnet",
        arch: Architecture::BitNet,
        rope: RopeStyle::Neox,
        activation: Activation::Silu,
        sub_norms: true,
        qk_norm: false,
        bias: Bias::Never,
    },
    Family {
        name: "qwen2",
        arch: Architecture::Llama,
        rope: RopeStyle::Neox,
        activation: Activation::Silu,
        sub_norms: false,
        qk_norm: false,
        bias: Bias::Inputs,
    },
    Family {
        name: "qwen3",
        arch: Architecture::Llama,
        rope: RopeStyle::Neox,
        activation: Activation::Silu,
        sub_norms: false,
        qk_norm: true,
        bias: Bias::Never,
    },
];

const ARCHITECTURE: &str = "general.architecture";
const TOKENS: &str = "tokenizer.ggml.tokens";

/// Makes a model of a GGUF file of architecture `llama`, `bitnet-b1.58`, `bitnet-25`, `bitnet`, `qwen2` or `qwen3`.
///
/// # Errors
/// [`Error::Format`] naming the metadata key or tensor that is missing, unknown or does not fit (shapes in the file's
/// order: `[inputs, outputs]`); for [`Format::Ternary`], the first linear layer that is not ternary.
pub fn load_gguf(file: &GgufFile, loading: impl Into<Loading>) -> Result<Model> {
    let (family, config) = (family(file)?, check_gguf(file)?);
    Loader { source: file, config: &config, name: family.name, loading: loading.into(), cache: None }.load()
}

/// As [`load_gguf`], from the cache at `path` ([`super::cache_path`]) where that is one of this file, so loaded; else it
/// is written.
///
/// # Errors
/// As [`load_gguf`]; what is wrong with the cache is told in [`CachedModel::notes`].
pub fn load_gguf_cached(file: &GgufFile, loading: impl Into<Loading>, path: &Path) -> Result<CachedModel> {
    let (family, config) = (family(file)?, check_gguf(file)?);
    Loader { source: file, config: &config, name: family.name, loading: loading.into(), cache: None }.load_cached(path)
}

/// As [`load_gguf`], with a cache's bytes; `name` stands for its path in messages.
///
/// # Errors
/// As [`load_gguf`], and what is wrong with the cache.
pub fn load_gguf_from(file: &GgufFile, loading: impl Into<Loading>, name: &Path, cache: Vec<u8>) -> Result<Model> {
    let (family, config) = (family(file)?, check_gguf(file)?);
    let loading = loading.into();
    let cache = Cache::parse(name, Bytes::Owned(cache), loading, file.fingerprint())?;
    Loader { source: file, config: &config, name: family.name, loading, cache: Some(&cache) }.load()
}

/// Checks that a GGUF file is of a known architecture and has its tensors in their shapes, without decoding any.
///
/// # Errors
/// As [`load_gguf`], what weights hold apart.
pub fn check_gguf(file: &GgufFile) -> Result<Config> {
    let reader = Reader { file, family: family(file)? };
    let mut config = reader.config()?;
    Loader { source: file, config: &config, name: reader.family.name, loading: Format::F16.into(), cache: None }
        .check()?;
    // Only now is the length of a head known to be that of tensors in the file.
    config.rope_factors = reader.rope_factors(config.head_dim)?;
    Ok(config)
}

/// Whether [`load_gguf`] can make a [`Format::Ternary`] model of the file: all linear layers of its blocks are ternary.
pub fn is_ternary_gguf(file: &GgufFile) -> bool {
    is_ternary(file)
}

/// Bytes that the matrices of a file take, about: what there must be room for before [`load_gguf`].
pub fn predict_gguf_bytes(file: &GgufFile, loading: impl Into<Loading>) -> u64 {
    predict_bytes(file, loading.into())
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
            rope_factors: Vec::new(),
            attention_bias: match family.bias {
                Bias::Never => false,
                Bias::Inputs => true,
                Bias::Optional => file.tensor("blk.0.attn_q.bias").is_some(),
            },
            output_bias: family.bias == Bias::Optional && file.tensor("blk.0.attn_output.bias").is_some(),
            qk_norm: family.qk_norm,
            sliding_window: self.sliding_window()?,
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

    /// How many positions a query sees, if not all; the same in every layer.
    fn sliding_window(&self) -> Result<Option<usize>> {
        let file = self.file;
        let window = file.opt_u32(&self.key("attention.sliding_window"))?.filter(|&window| window > 0);
        let pattern = self.key("attention.sliding_window_pattern");
        if let (Some(_), Some(value)) = (window, file.value(&pattern)) {
            let expected = "none (a sliding window is the same in every layer)";
            return Err(file.wrong_key(&pattern, expected, value.to_string()).into());
        }
        Ok(window.map(|window| window as usize))
    }

    /// Refuses what would change the function and is not computed here.
    fn refuse_unsupported(&self) -> Result<()> {
        let file = self.file;
        let experts = self.key("expert_count");
        if let Some(count) = file.opt_u32(&experts)?.filter(|&count| count > 0) {
            return Err(file.wrong_key(&experts, "none", count.to_string()).into());
        }
        let causal = self.key("attention.causal");
        if file.opt_bool(&causal)? == Some(false) {
            return Err(file.wrong_key(&causal, "true (a token sees those before it)", "false").into());
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
        "sliding_window" => "attention.sliding_window",
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

impl Source for GgufFile {
    type Weight<'a> = (&'a GgufFile, &'a TensorInfo);

    fn names(&self) -> Vec<String> {
        let weights = self.tensors().iter().filter(|tensor| tensor.name() != ROPE_FREQS && !self.is_scale(tensor));
        weights.map(|tensor| tensor.name().to_owned()).collect()
    }

    fn weight(&self, name: &str) -> Option<Self::Weight<'_>> {
        Some((self, self.tensor(name)?))
    }

    fn missing(&self, name: &str, expected: String) -> Error {
        missing(self, name, expected)
    }
}

impl Fingerprint for GgufFile {
    fn fingerprint(&self) -> u64 {
        let (modified, header) = self.stamp();
        let ends = self.tensors().iter().map(|tensor| ends(self.data(tensor)));
        let read_as = format!("{:?} {:?}", self.i2s_layout(), self.kernels());
        let all =
            [modified.map_or(0, |time| time as u64), self.file_bytes() as u64, hash(header), hash(read_as.as_bytes())];
        hash(&all.into_iter().chain(ends).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
    }
}

impl Weight for (&GgufFile, &TensorInfo) {
    fn dims(&self) -> &[u64] {
        self.1.dims()
    }

    fn wrong(&self, expected: &str, found: String) -> Error {
        self.1.wrong(self.0.path(), expected, found).into()
    }

    fn floats(&self) -> Result<impl Rows<f32>> {
        Ok(|row: usize, out: &mut [f32]| Ok(self.0.row_to_f32(self.1, row, out)?))
    }

    fn is_ternary(&self) -> bool {
        self.1.kind().is_ternary()
    }

    fn trits(&self) -> Result<(f32, impl Rows<i8>)> {
        if !self.1.kind().is_ternary() {
            let expected = "a ternary tensor (I2_S, TQ1_0, TQ2_0, TL1 or TL2) for the ternary engine (the f16 engine runs this file)";
            return Err(self.wrong(expected, self.1.kind().to_string()));
        }
        let row = |row: usize, out: &mut [i8]| Ok(self.0.ternary_row(self.1, row, out)?);
        Ok((self.0.ternary_scale(self.1)?, row))
    }

    fn packed(&self) -> Option<PackedTrits<'_>> {
        self.0.packed_trits(self.1)
    }

    fn halves(&self) -> Option<(&'static str, &[u8])> {
        let name = match self.1.kind() {
            TensorType::F16 => half::f16::NAME,
            TensorType::BF16 => half::bf16::NAME,
            _ => return None,
        };
        Some((name, self.0.data(self.1)))
    }

    fn blocks(&self) -> Option<Blocks<'_>> {
        match self.1.kind() {
            TensorType::Q8_0 => Some(Blocks::Q8_0(self.0.data(self.1))),
            TensorType::Q6K => Some(Blocks::Q6K(self.0.data(self.1))),
            _ => None,
        }
    }
}

impl Pages for (&GgufFile, &TensorInfo) {
    fn bytes(&self) -> usize {
        self.1.bytes().len()
    }

    fn row_bytes(&self) -> Option<usize> {
        let scattered = matches!(self.1.kind(), TensorType::I2S | TensorType::Tl1 | TensorType::Tl2);
        (!scattered).then(|| self.bytes() / self.1.rows().max(1))
    }

    fn release(&self, part: Range<usize>) {
        self.0.release_part(self.1, part);
    }
}
