//! The metadata of a GGUF file from a model's configuration.

use crate::error::{Error, Result};
use crate::formats::gguf::{Meta, Metadata};
use crate::model::{Activation, Architecture, Config, RopeStyle};

/// The architecture that GGUF files give such a model.
pub(super) fn architecture(config: &Config) -> &'static str {
    let halves = config.rope == RopeStyle::Neox;
    match (config.arch, config.activation) {
        (Architecture::Llama, _) if config.qk_norm && halves => "qwen3",
        (Architecture::Llama, _) if config.attention_bias && !config.output_bias && halves => "qwen2",
        (Architecture::Llama, _) => "llama",
        (Architecture::BitNet, Activation::Relu2) => "bitnet-b1.58",
        (Architecture::BitNet, Activation::Silu) => "bitnet",
    }
}

/// The keys that a model is loaded by, here and in llama.cpp.
///
/// # Errors
/// What no key of such a file says.
pub(super) fn config_metadata(config: &Config) -> Result<Metadata> {
    let name = architecture(config);
    refuse(config, name)?;
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", name);
    let mut set = |key: &str, value: Meta| {
        metadata.set(&format!("{name}.{key}"), value);
    };
    // Counts were checked against `Config`'s bound, which fits u32.
    let counts = [
        ("vocab_size", config.vocab),
        ("context_length", config.context),
        ("embedding_length", config.hidden),
        ("block_count", config.layers),
        ("feed_forward_length", config.ffn),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.kv_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
    ];
    for (key, count) in counts {
        set(key, Meta::U32(count as u32));
    }
    set("attention.layer_norm_rms_epsilon", Meta::F32(config.norm_eps));
    set("rope.freq_base", Meta::F32(config.rope_theta as f32));
    if let Some(window) = config.sliding_window {
        set("attention.sliding_window", Meta::U32(window as u32));
    }
    if let Some(factor) = linear_factor(config) {
        set("rope.scaling.type", "linear".into());
        set("rope.scaling.factor", Meta::F32(factor));
    }
    Ok(metadata)
}

/// Refuses what neither kind of file would say (RoPE factors are a tensor in GGUF files: see `hf`). Every field is named,
/// so that a new one cannot be forgotten.
pub(super) fn refuse(config: &Config, name: &str) -> Result<()> {
    let Config {
        arch: _,
        hidden: _,
        ffn: _,
        layers: _,
        heads: _,
        kv_heads: _,
        head_dim: _,
        vocab: _,
        norm_eps: _,
        rope_theta: _,
        rope: _,
        rope_factors: _,
        attention_bias,
        output_bias: _,
        qk_norm,
        sliding_window: _,
        activation,
        sub_norms,
        context: _,
        tied: _,
    } = config;
    let llama = config.arch == Architecture::Llama;
    let wrong = |field, expected: &str, found: String| {
        Err(Error::Config { field, expected: format!("{expected}, to convert a {name} model"), found })
    };
    if *attention_bias && (*qk_norm || !llama) || *qk_norm && !llama {
        return wrong("attention_bias", "no biases beside query and key norms, neither in BitNet", "both".to_owned());
    }
    if *sub_norms == llama {
        return wrong("sub_norms", if llama { "none" } else { "sub-norms" }, sub_norms.to_string());
    }
    if llama && *activation != Activation::Silu {
        return wrong("activation", "silu", format!("{activation:?}"));
    }
    Ok(())
}

/// The one factor by which RoPE's frequencies are divided, if there is one. Else files hold all of them, as a tensor.
pub(super) fn linear_factor(config: &Config) -> Option<f32> {
    let first = *config.rope_factors.first()?;
    config.rope_factors.iter().all(|factor| *factor == first).then_some(first)
}
