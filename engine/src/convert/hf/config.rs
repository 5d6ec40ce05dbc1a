//! `config.json` of a GGUF file's model.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::{Options, Target};
use super::{ROPE_FACTORS, rope};
use crate::error::{Error, Result};
use crate::formats::GgufFile;
use crate::formats::gguf::TensorType;
use crate::formats::safetensors::Section;
use crate::model::{Activation, Architecture, Config, RopeStyle, read_config};

/// A `config.json`.
pub(super) struct Described {
    pub(super) json: Map<String, Value>,
    /// What it does not say to the bit.
    pub(super) inexact: Vec<String>,
}

/// The `config.json` that says what the model is, as it is read here and by transformers.
///
/// # Errors
/// What no configuration class says.
pub(super) fn describe(file: &GgufFile, config: &Config, options: &Options) -> Result<Described> {
    let (class, model_type) = class(config)?;
    let multiplies = options.target == Target::Hf && !options.inverse;
    if multiplies && config.attention_bias {
        let expected =
            "none where scales multiply (autobitlinear scales biases too; --scale-convention inverse does not)";
        return Err(wrong("attention_bias", expected, "biases"));
    }
    let rule = rope::rule(config)?;
    let mut json = shape(config);
    let mut set = |key: &str, value: Value| {
        json.insert(key.to_owned(), value);
    };
    set("architectures", json!([class]));
    set("model_type", json!(model_type));
    if let Some(window) = config.sliding_window {
        set("sliding_window", json!(window));
        if class == "Qwen2ForCausalLM" || class == "Qwen3ForCausalLM" {
            set("use_sliding_window", json!(true));
            // The first layer with a window.
            set("max_window_layers", json!(0));
        }
    }
    let ulps = rule.as_ref().map_or(0, |rule| rule.ulps);
    if let Some(rule) = rule {
        set("rope_scaling", rule.json);
    }
    for key in ["bos", "eos"] {
        if let Ok(Some(id)) = file.opt_u32(&format!("tokenizer.ggml.{key}_token_id")) {
            set(&format!("{key}_token_id"), json!(id));
        }
    }
    stored_as(options, &mut set);
    let mut inexact = Vec::new();
    if ulps > 0 {
        inexact.push(format!(
            "{ROPE_FACTORS}: factors of config.json's rule, which miss the file's by {ulps} ulp at most"
        ));
    }
    check(&json, config, ulps == 0)?;
    Ok(Described { json, inexact })
}

/// The class of transformers that is this model, and its `model_type`.
fn class(config: &Config) -> Result<(&'static str, &'static str)> {
    let window = config.sliding_window.is_some();
    Ok(match (config.arch, config.qk_norm, config.attention_bias, config.output_bias) {
        (Architecture::BitNet, ..) if window => {
            return Err(wrong("sliding_window", "none in a BitNet model, to convert to a folder", "one"));
        }
        (Architecture::BitNet, ..) => ("BitNetForCausalLM", "bitnet"),
        (Architecture::Llama, true, ..) => ("Qwen3ForCausalLM", "qwen3"),
        // Whatever the file calls it: queries, keys and values have biases, the output has none.
        (Architecture::Llama, _, true, false) => ("Qwen2ForCausalLM", "qwen2"),
        (Architecture::Llama, _, false, true) => {
            let expected = "none without biases of queries, keys and values, to convert to a folder";
            return Err(wrong("output_bias", expected, "one"));
        }
        (Architecture::Llama, _, true, true) if window => {
            let expected = "none beside a bias of the attention's output, to convert to a folder";
            return Err(wrong("sliding_window", expected, "one"));
        }
        (Architecture::Llama, ..) if window => ("MistralForCausalLM", "mistral"),
        (Architecture::Llama, ..) => ("LlamaForCausalLM", "llama"),
    })
}

fn wrong(field: &'static str, expected: &str, found: &str) -> Error {
    Error::Config { field, expected: expected.to_owned(), found: found.to_owned() }
}

/// The keys that every class has.
fn shape(config: &Config) -> Map<String, Value> {
    let keys = [
        ("hidden_size", json!(config.hidden)),
        ("intermediate_size", json!(config.ffn)),
        ("num_hidden_layers", json!(config.layers)),
        ("num_attention_heads", json!(config.heads)),
        ("num_key_value_heads", json!(config.kv_heads)),
        ("head_dim", json!(config.head_dim)),
        ("vocab_size", json!(config.vocab)),
        ("max_position_embeddings", json!(config.context)),
        // The shortest decimal that is this f32, not the f64 it widens to.
        ("rms_norm_eps", config.norm_eps.to_string().parse().map_or(json!(config.norm_eps), |eps: f64| json!(eps))),
        ("rope_theta", json!(config.rope_theta)),
        ("hidden_act", json!(if config.activation == Activation::Relu2 { "relu2" } else { "silu" })),
        ("tie_word_embeddings", json!(config.tied)),
        // All four of the attention's layers: in Qwen2, where three have them, this is not asked.
        ("attention_bias", json!(config.attention_bias && config.output_bias)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// How the weights are stored.
fn stored_as(options: &Options, set: &mut dyn FnMut(&str, Value)) {
    match options.target {
        Target::Hf => {
            let class = if options.inverse { "bitlinear" } else { "autobitlinear" };
            set("torch_dtype", json!("bfloat16"));
            set(
                "quantization_config",
                json!({ "quant_method": "bitnet", "linear_class": class, "quantization_mode": "offline" }),
            );
        }
        Target::Float(TensorType::F32) => set("torch_dtype", json!("float32")),
        Target::Float(TensorType::F16) => set("torch_dtype", json!("float16")),
        _ => set("torch_dtype", json!("bfloat16")),
    }
}

/// Reads the configuration back, which must be the model's: RoPE's factors too, if they are said to be.
fn check(json: &Map<String, Value>, config: &Config, factors: bool) -> Result<()> {
    let mut read = read_config(Section::new(Path::new("config.json"), json))?;
    if !factors {
        read.rope_factors.clone_from(&config.rope_factors);
    }
    let want = Config { rope: RopeStyle::Neox, ..config.clone() };
    match read == want {
        true => Ok(()),
        false => Err(wrong("config.json", &format!("one that says {want:?}"), &format!("one that says {read:?}"))),
    }
}
