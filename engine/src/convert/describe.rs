//! The metadata of a GGUF file from a model's configuration.

use crate::formats::gguf::{Meta, Metadata};
use crate::model::{Activation, Architecture, Config};

/// The architecture that GGUF files give such a model.
pub(super) fn architecture(config: &Config) -> &'static str {
    match (config.arch, config.activation) {
        (Architecture::Llama, _) => "llama",
        (Architecture::BitNet, Activation::Relu2) => "bitnet-b1.58",
        (Architecture::BitNet, Activation::Silu) => "bitnet",
    }
}

/// The keys that a model is loaded by, here and in llama.cpp.
pub(super) fn config_metadata(config: &Config) -> Metadata {
    let name = architecture(config);
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
    metadata
}
