//! The configuration of a Hugging Face folder, and its tensors as a source.
//!
//! Keys that `config.json` leaves out have the defaults of transformers' configuration classes (5.24), which write only
//! what differs from them; the 1bitLLM models have those of the code that they carry.

mod source;

use super::{CachedModel, Loader, Loading, predict_bytes};
use crate::error::{Error, Result};
use crate::formats::HfFolder;
use crate::formats::safetensors::{self, Convention, Section};
use crate::model::{Activation, Architecture, Config, Format, Llama3Scaling, Model, RopeStyle};
use std::path::Path;

/// A model class of transformers, and what its configuration class assumes.
struct Class {
    /// In `architectures`.
    name: &'static str,
    arch: Architecture,
    sub_norms: bool,
    /// RMSNorm of each head's query and key.
    qk_norm: bool,
    biases: Biases,
    window: Window,
    hidden_act: &'static str,
    vocab_size: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    /// `None`: as many as attention heads. (`null` in the file means that for every class.)
    num_key_value_heads: Option<u32>,
    /// `None`: the width parted among the heads.
    head_dim: Option<u32>,
    max_position_embeddings: u32,
    rms_norm_eps: f64,
    rope_theta: f64,
}

/// Which of the attention's linear layers have biases.
#[derive(Clone, Copy, PartialEq)]
enum Biases {
    None,
    /// All four, if `attention_bias` says so.
    Told,
    /// Queries, keys and values, always.
    Qkv,
}

/// Which layers see a window of positions alone.
#[derive(Clone, Copy, PartialEq)]
enum Window {
    None,
    /// All, if `sliding_window` is a number; it is 4096 if not given.
    All,
    /// With `use_sliding_window`, those from `max_window_layers` on, or as `layer_types` says.
    Upper,
}

/// `sliding_window` and `max_window_layers` where they are not given.
const WINDOW: u32 = 4096;
const WINDOW_FROM: u32 = 28;

/// Longest head: far above every one there is.
const MAX_HEAD_DIM: u32 = 1 << 16;

/// `LlamaConfig`.
const LLAMA: Class = Class {
    name: "LlamaForCausalLM",
    arch: Architecture::Llama,
    sub_norms: false,
    qk_norm: false,
    biases: Biases::Told,
    window: Window::None,
    hidden_act: "silu",
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
};

/// `Qwen2Config`.
const QWEN2: Class = Class {
    name: "Qwen2ForCausalLM",
    biases: Biases::Qkv,
    window: Window::Upper,
    vocab_size: 151_936,
    intermediate_size: 22_016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32_768,
    ..LLAMA
};

static CLASSES: [Class; 6] = [
    LLAMA,
    // `MistralConfig`.
    Class {
        name: "MistralForCausalLM",
        biases: Biases::None,
        window: Window::All,
        intermediate_size: 14_336,
        num_key_value_heads: Some(8),
        max_position_embeddings: 131_072,
        ..LLAMA
    },
    QWEN2,
    // `Qwen3Config`.
    Class { name: "Qwen3ForCausalLM", biases: Biases::Told, qk_norm: true, head_dim: Some(128), ..QWEN2 },
    // `BitNetConfig`: BitNet b1.58 2B4T.
    Class {
        name: "BitNetForCausalLM",
        arch: Architecture::BitNet,
        sub_norms: true,
        hidden_act: "relu2",
        vocab_size: 128_256,
        hidden_size: 2560,
        intermediate_size: 6912,
        num_hidden_layers: 30,
        num_attention_heads: 20,
        num_key_value_heads: Some(5),
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 500_000.0,
        ..LLAMA
    },
    // The 1bitLLM models' own `BitnetConfig`: LLaMA's defaults.
    Class { name: "BitnetForCausalLM", arch: Architecture::BitNet, sub_norms: true, ..LLAMA },
];

/// Bytes that the matrices of a folder take, about: what there must be room for before [`load_hf`].
pub fn predict_hf_bytes(folder: &HfFolder, loading: impl Into<Loading>) -> u64 {
    predict_bytes(folder, loading.into())
}

/// Makes a model of a Hugging Face folder: of a `LlamaForCausalLM`, `MistralForCausalLM`, `Qwen2ForCausalLM`,
/// `Qwen3ForCausalLM`, `BitNetForCausalLM` (2B4T) or `BitnetForCausalLM` (the 1bitLLM models).
///
/// The f16 engine runs the trits times their scale of every weight that the folder's [`safetensors::Convention`]
/// quantises, of master weights too: both engines run one function.
///
/// # Errors
/// [`Error::Format`] naming the key or tensor that is missing, unknown or does not fit (shapes as GGUF has them:
/// `[inputs, outputs]`); for [`Format::Ternary`], the first linear layer that is not ternary.
pub fn load_hf(folder: &HfFolder, loading: impl Into<Loading>) -> Result<Model> {
    let reader = Reader { config: folder.config(), class: class(folder.config())? };
    let config = reader.folder_config(folder)?;
    Loader { source: folder, config: &config, name: reader.class.name, loading: loading.into(), cache: None }.load()
}

/// As [`load_hf`], from the cache at `path` ([`super::cache_path`]) where that is one of this folder, so loaded; else it is
/// written.
///
/// # Errors
/// As [`load_hf`]; what is wrong with the cache is told in [`CachedModel::notes`].
pub fn load_hf_cached(folder: &HfFolder, loading: impl Into<Loading>, path: &Path) -> Result<CachedModel> {
    let reader = Reader { config: folder.config(), class: class(folder.config())? };
    let config = reader.folder_config(folder)?;
    Loader { source: folder, config: &config, name: reader.class.name, loading: loading.into(), cache: None }
        .load_cached(path)
}

/// Checks that a folder is of a known architecture and has its tensors in their shapes, without decoding any.
///
/// # Errors
/// As [`load_hf`], what weights hold apart.
pub fn check_hf(folder: &HfFolder) -> Result<Config> {
    let reader = Reader { config: folder.config(), class: class(folder.config())? };
    let config = reader.folder_config(folder)?;
    Loader { source: folder, config: &config, name: reader.class.name, loading: Format::F16.into(), cache: None }
        .check()?;
    Ok(config)
}

/// What a `config.json` says, whatever tensors lie beside it.
///
/// # Errors
/// As [`load_hf`].
pub(crate) fn read_config(config: Section<'_>) -> Result<Config> {
    Reader { config, class: class(config)? }.config()
}

fn class(config: Section<'_>) -> Result<&'static Class> {
    const KEY: &str = "architectures";
    let known = || {
        let names = CLASSES.iter().map(|class| class.name).collect::<Vec<_>>().join(", ");
        format!("a known architecture ({names})")
    };
    let named = config.opt_strings(KEY)?.unwrap_or_default();
    let Some(name) = named.first() else { return Err(config.missing(KEY, known()).into()) };
    let class = CLASSES.iter().find(|class| class.name == *name);
    class.ok_or_else(|| config.wrong(KEY, known(), *name).into())
}

/// Reads the configuration.
struct Reader<'a> {
    config: Section<'a>,
    class: &'static Class,
}

impl Reader<'_> {
    /// The configuration, held against what the folder's tensors are.
    fn folder_config(&self, folder: &HfFolder) -> Result<Config> {
        let config = self.config()?;
        if config.attention_bias && folder.convention() == Convention::Multiplies {
            let section = folder.config().section("quantization_config")?.unwrap_or(folder.config());
            let expected = "bitlinear, or a model without biases (autobitlinear scales them with the weights)";
            return Err(section.wrong("linear_class", expected, "autobitlinear").into());
        }
        if config.tied {
            check_tied_head(folder)?;
        }
        Ok(config)
    }

    fn count(&self, key: &str, default: u32) -> Result<usize> {
        match self.config.opt_u32(key)?.unwrap_or(default) {
            0 => Err(self.config.wrong(key, "a count of at least 1", "0").into()),
            count => Ok(count as usize),
        }
    }

    fn config(&self) -> Result<Config> {
        let (file, class) = (self.config, self.class);
        let heads = self.count("num_attention_heads", class.num_attention_heads)?;
        let hidden = self.count("hidden_size", class.hidden_size)?;
        let layers = self.count("num_hidden_layers", class.num_hidden_layers)?;
        let told = class.biases == Biases::Told && file.opt_bool("attention_bias")?.unwrap_or(false);
        let (rope_theta, scaling) = self.rope()?;
        let mut config = Config {
            arch: class.arch,
            hidden,
            ffn: self.count("intermediate_size", class.intermediate_size)?,
            layers,
            heads,
            kv_heads: self.kv_heads(heads)?,
            head_dim: self.head_dim(hidden, heads)?,
            vocab: self.count("vocab_size", class.vocab_size)?,
            norm_eps: file.opt_f64("rms_norm_eps")?.unwrap_or(class.rms_norm_eps) as f32,
            rope_theta,
            rope: RopeStyle::Neox,
            rope_factors: Vec::new(),
            attention_bias: class.biases == Biases::Qkv || told,
            output_bias: told,
            qk_norm: class.qk_norm,
            sliding_window: self.sliding_window(layers)?,
            activation: self.activation()?,
            sub_norms: class.sub_norms,
            context: self.count("max_position_embeddings", class.max_position_embeddings)?,
            tied: file.opt_bool("tie_word_embeddings")?.unwrap_or(false),
        };
        if file.opt_bool("mlp_bias")?.unwrap_or(false) {
            return Err(file.wrong("mlp_bias", "false (no biases in the feed-forward)", "true").into());
        }
        let by_key = |error| match error {
            Error::Config { field, expected, found } => file.wrong(key_of(field), expected, found).into(),
            other => other,
        };
        config.validate().map_err(by_key)?;
        if let Some(section) = scaling {
            config.rope_factors = self.rope_factors(section, &config)?;
            config.validate().map_err(by_key)?;
        }
        Ok(config)
    }

    fn kv_heads(&self, heads: usize) -> Result<usize> {
        const KEY: &str = "num_key_value_heads";
        match self.class.num_key_value_heads {
            Some(default) if !self.config.has(KEY) => Ok(default as usize),
            _ => self.count(KEY, heads as u32),
        }
    }

    /// Values of a head: said outright, else the width parted among the heads.
    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize> {
        let given = match self.class.head_dim {
            Some(default) if !self.config.has("head_dim") => Some(default),
            _ => self.config.opt_u32("head_dim")?,
        };
        match given {
            Some(dim) if dim > MAX_HEAD_DIM => {
                let expected = format!("at most {MAX_HEAD_DIM}");
                Err(self.config.wrong("head_dim", expected, dim.to_string()).into())
            }
            Some(dim) => Ok(dim as usize),
            None if hidden.is_multiple_of(heads) => Ok(hidden / heads),
            None => {
                let expected = format!("a divisor of the hidden size {hidden}");
                Err(self.config.wrong("num_attention_heads", expected, heads.to_string()).into())
            }
        }
    }

    fn activation(&self) -> Result<Activation> {
        match self.config.opt_str("hidden_act")?.unwrap_or(self.class.hidden_act) {
            "silu" | "swish" => Ok(Activation::Silu),
            "relu2" => Ok(Activation::Relu2),
            other => Err(self.config.wrong("hidden_act", "silu or relu2", other).into()),
        }
    }
}

impl Reader<'_> {
    /// RoPE's base, and the object that scales it: `rope_scaling` (old) or `rope_parameters` (new), which has the base too.
    fn rope(&self) -> Result<(f64, Option<Section<'_>>)> {
        let file = self.config;
        let section = match file.section("rope_scaling")? {
            None => file.section("rope_parameters")?,
            old => old,
        };
        for section in [Some(file), section].into_iter().flatten() {
            match section.opt_f64("partial_rotary_factor")? {
                Some(part) if part != 1.0 => {
                    return Err(section.wrong("partial_rotary_factor", "1", part.to_string()).into());
                }
                _ => {}
            }
        }
        let inner = section.map(|section| section.opt_f64("rope_theta")).transpose()?.flatten();
        let outer = file.opt_f64("rope_theta")?;
        Ok((inner.or(outer).unwrap_or(self.class.rope_theta), section))
    }

    /// What frequencies are divided by; none if they are not scaled.
    fn rope_factors(&self, section: Section<'_>, config: &Config) -> Result<Vec<f32>> {
        let key = if section.has("rope_type") { "rope_type" } else { "type" };
        let number = |key: &str| match section.opt_f64(key)? {
            Some(number) => Ok::<f64, Error>(number),
            None => Err(section.missing(key, "a number").into()),
        };
        match section.opt_str(key)?.unwrap_or("default") {
            "default" => Ok(Vec::new()),
            "linear" => Ok(vec![number("factor")? as f32; config.head_dim / 2]),
            "llama3" => {
                let original = section.opt_u32("original_max_position_embeddings")?;
                let scaling = Llama3Scaling {
                    factor: number("factor")?,
                    low_freq_factor: number("low_freq_factor")?,
                    high_freq_factor: number("high_freq_factor")?,
                    original_context: original.map_or(config.context, |context| context as usize),
                };
                scaling.factors(config.head_dim, config.rope_theta).map_err(|error| match error {
                    Error::Config { field, expected, found } => {
                        section.wrong(field.trim_start_matches("rope_scaling."), expected, found).into()
                    }
                    other => other,
                })
            }
            other => Err(section.wrong(key, "default, linear or llama3", other).into()),
        }
    }

    /// The window that all layers see, if they do.
    fn sliding_window(&self, layers: usize) -> Result<Option<usize>> {
        const KEY: &str = "sliding_window";
        let file = self.config;
        let width = match file.has(KEY) {
            true => file.opt_u32(KEY)?,
            false => Some(WINDOW),
        };
        let width = width.map(|width| width as usize);
        match self.class.window {
            Window::None => return Ok(None),
            Window::All => return Ok(width),
            Window::Upper => {}
        }
        let used = file.opt_bool("use_sliding_window")?.unwrap_or(false);
        let slides = match file.opt_strings("layer_types")? {
            Some(types) if types.len() != layers => {
                return Err(file.wrong("layer_types", format!("{layers} of them"), types.len().to_string()).into());
            }
            Some(types) => match types.iter().find(|kind| !matches!(**kind, "full_attention" | "sliding_attention")) {
                Some(other) => {
                    return Err(file.wrong("layer_types", "full_attention and sliding_attention", *other).into());
                }
                None => types.iter().filter(|kind| **kind == "sliding_attention").count(),
            },
            None => layers.saturating_sub(file.opt_u32("max_window_layers")?.unwrap_or(WINDOW_FROM) as usize),
        };
        match (used.then_some(width).flatten(), slides) {
            (None, _) | (_, 0) => Ok(None),
            (Some(width), slides) if slides == layers => Ok(Some(width)),
            (Some(_), slides) => {
                let found = format!("{slides} of {layers} layers with one");
                Err(file.wrong(KEY, "a window in all layers or in none", found).into())
            }
        }
    }
}

/// A head that is tied may be in the file as well, if it is the embedding: transformers unties one that differs, and
/// did not always.
fn check_tied_head(folder: &HfFolder) -> Result<()> {
    let (Some(head), Some(embedding)) = (folder.weight("output.weight"), folder.weight("token_embd.weight")) else {
        return Ok(());
    };
    match is_same(&head, &embedding) {
        true => Ok(()),
        false => {
            let expected = "the embedding's own bytes (config.json: tie_word_embeddings)";
            Err(safetensors::Weight::wrong(&head, expected, "others").into())
        }
    }
}

/// Whether two tensors have the same bytes; what was compared does not stay in memory.
fn is_same(a: &safetensors::Weight<'_>, b: &safetensors::Weight<'_>) -> bool {
    /// Bytes compared at a time.
    const PART: usize = 4 << 20;
    let (left, right) = (a.data(), b.data());
    let same = |nth: usize| {
        let part = nth * PART..left.len().min((nth + 1) * PART);
        let same = left[part.clone()] == right[part.clone()];
        a.release_part(part.clone());
        b.release_part(part);
        same
    };
    left.len() == right.len() && (0..left.len().div_ceil(PART)).all(same)
}

/// The key that a field of [`Config`] is read from.
fn key_of(field: &str) -> &'static str {
    match field {
        "hidden" => "hidden_size",
        "ffn" => "intermediate_size",
        "layers" => "num_hidden_layers",
        "heads" => "num_attention_heads",
        "kv_heads" => "num_key_value_heads",
        "head_dim" => "head_dim",
        "vocab" => "vocab_size",
        "norm_eps" => "rms_norm_eps",
        "rope_theta" => "rope_theta",
        "rope_factors" => "rope_scaling.factor",
        "sliding_window" => "sliding_window",
        _ => "max_position_embeddings",
    }
}
