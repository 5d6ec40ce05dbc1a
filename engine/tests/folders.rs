//! Hugging Face folders: one BitNet model under every convention is the model made by hand, bit for bit, in both
//! engines; and what is wrong with a folder is named.

mod common;

use std::collections::HashMap;

use common::bitnet::{Form, LINEARS, NORMS, VOCAB, Weights, config};
use common::folder::{Folder, Tensor, raw};
use common::{Stream, logits};
use engine::formats::HfFolder;
use engine::formats::safetensors::{Convention, Packing};
use engine::model::{Activation, Architecture, Format, RopeStyle, load_hf};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

const FORMS: [(Form, Convention); 5] = [
    (Form::Multiplies, Convention::Multiplies),
    (Form::Loose, Convention::Multiplies),
    (Form::Divides, Convention::Divides),
    (Form::Online, Convention::Online),
    (Form::OneBit, Convention::Online),
];

fn open(files: &HashMap<String, Vec<u8>>) -> HfFolder {
    HfFolder::from_files("folder", files).unwrap()
}

#[test]
fn every_convention_holds_the_same_model() {
    for tied in [true, false] {
        let weights = Weights::new(tied);
        for (form, convention) in FORMS {
            let folder = weights.folder(form, tied);
            let activation = if form == Form::OneBit { Activation::Silu } else { Activation::Relu2 };
            for format in [Format::Ternary, Format::F16] {
                let want = logits(&weights.model(&config(tied, activation), format));
                assert!(want.iter().all(|l| l.is_finite()) && want.iter().any(|&l| l != want[0]));
                for files in [folder.files(), folder.sharded(3)] {
                    let opened = open(&files);
                    assert_eq!(opened.convention(), convention);
                    let model = load_hf(&opened, format).unwrap();
                    assert_eq!(*model.config(), config(tied, activation));
                    assert_eq!(logits(&model), want, "{form:?} {format:?}");
                }
            }
        }
    }
}

#[test]
fn a_scale_taken_the_other_way_is_another_model() {
    let weights = Weights::new(true);
    let mut folder = weights.folder(Form::Multiplies, true);
    let right = logits(&load_hf(&open(&folder.files()), Format::Ternary).unwrap());
    folder.set("quantization_config", json!({ "quant_method": "bitnet", "linear_class": "bitlinear" }));
    assert_ne!(logits(&load_hf(&open(&folder.files()), Format::Ternary).unwrap()), right);
}

#[test]
fn folders_on_disk_are_read() {
    let weights = Weights::new(true);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in weights.folder(Form::Multiplies, true).sharded(2) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let opened = HfFolder::open(folder.path()).unwrap();
    assert_eq!(opened.files().count(), 2);
    let want = logits(&weights.model(&config(true, Activation::Relu2), Format::Ternary));
    assert_eq!(logits(&load_hf(&opened, Format::Ternary).unwrap()), want);
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let message = HfFolder::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("config.json"), "{message}");
    std::fs::create_dir(folder.path().join("config.json")).unwrap();
    let message = HfFolder::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("not a regular file"), "{message}");
}

/// What transformers' `WeightQuant` makes of master weights, in its own words.
fn quantised(weights: &[f32]) -> (Vec<i8>, f32) {
    let mean = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / weights.len() as f64;
    let s = 1.0 / (mean as f32).max(1e-5);
    let trit = |w: &f32| match w * s {
        x if x > 0.5 => 1,
        x if x < -0.5 => -1,
        _ => 0,
    };
    (weights.iter().map(trit).collect(), 1.0 / s)
}

#[test]
fn master_weights_are_quantised_by_their_mean() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let mut stream = Stream(9);
    let random: Vec<f32> = (0..96 * 64).map(|_| half::bf16::from_f32(0.1 * stream.unit()).to_f32()).collect();
    // Mean 1, and values on the borders: halves go to the even neighbour, 0.
    let halves: Vec<f32> = (0..96 * 64).map(|i| [0.5, -0.5, 1.5, -1.5][i % 4]).collect();
    let tiny: Vec<f32> = (0..96 * 64).map(|i| [1e-6, 0.0, -2e-6, 0.0][i % 4]).collect();
    for values in [random, halves, tiny, vec![0.0; 96 * 64]] {
        let mut folder = Weights::new(true).folder(Form::Online, true);
        *folder.tensor(name) = Tensor::floats(Dtype::F32, &[96, 64], &values);
        let opened = open(&folder.files());
        let weight = opened.weight("blk.1.ffn_up.weight").unwrap();
        assert_eq!((weight.packing(), weight.dims()), (Packing::Master, &[64, 96][..]));
        let (want, scale) = quantised(&values);
        let trits = weight.trits().unwrap();
        assert_eq!(trits.scale(), scale);
        let (mut row, mut wide) = (vec![0; 64], vec![0.0; 64]);
        for r in 0..96 {
            trits.row(r, &mut row).unwrap();
            weight.row_to_f32(r, &mut wide).unwrap();
            assert_eq!(row, want[r * 64..][..64]);
            assert!(row.iter().zip(&wide).all(|(&trit, &wide)| f32::from(trit) * scale == wide));
        }
    }
}

/// A plain LLaMA model.
fn llama(dtype: Dtype) -> Folder {
    let mut folder = Weights::new(false).folder(Form::Loose, false);
    folder.config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "hidden_act": "silu", "rope_scaling": null, "quantization_config": null,
    });
    folder.tensors.retain(|name, _| !name.contains("sub_norm") && !name.ends_with("_scale"));
    for (name, tensor) in folder.tensors.iter_mut().filter(|(name, _)| name.contains("_proj")) {
        let len = tensor.shape.iter().product();
        let mut stream = Stream(name.len() as u64);
        let values: Vec<f32> = (0..len).map(|_| half::f16::from_f32(0.2 * stream.unit()).to_f32()).collect();
        *tensor = Tensor::floats(dtype, &tensor.shape, &values);
    }
    folder
}

#[test]
fn a_plain_llama_runs_as_it_stands() {
    let model = load_hf(&open(&llama(Dtype::F32).files()), Format::F16).unwrap();
    let found = model.config();
    assert_eq!((found.arch, found.rope, found.sub_norms), (Architecture::Llama, RopeStyle::Neox, false));
    // Defaults of `LlamaConfig`.
    assert_eq!((found.activation, found.norm_eps, found.rope_theta), (Activation::Silu, 1e-6, 10_000.0));
    let mut row = vec![0.0; 64];
    let folder = llama(Dtype::F32);
    for layer in 0..2 {
        for ((_, linear), (name, rows, cols)) in model.layers()[layer].linears().into_iter().zip(LINEARS) {
            let stored = &folder.tensors[&format!("model.layers.{layer}.{name}.weight")].data;
            row.resize(cols, 0.0);
            for r in 0..rows {
                linear.row_to_f32(r, &mut row);
                let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
                assert_eq!(bytes, stored[r * cols * 4..][..cols * 4], "{name}");
            }
        }
    }
    assert_eq!(logits(&model), logits(&load_hf(&open(&llama(Dtype::F16).files()), Format::F16).unwrap()));
    refused(&llama(Dtype::F32), Format::Ternary, &["layers.0.self_attn.q_proj.weight", "ternary", "F32"]);
}

#[test]
fn what_a_configuration_leaves_out_is_as_in_transformers() {
    let mut folder = Weights::new(false).folder(Form::Multiplies, false);
    for key in ["rope_theta", "rms_norm_eps", "tie_word_embeddings", "max_position_embeddings"] {
        folder.unset(key);
    }
    let found = load_hf(&open(&folder.files()), Format::Ternary).unwrap().config().clone();
    assert_eq!((found.rope_theta, found.norm_eps, found.context, found.tied), (500_000.0, 1e-5, 2048, false));
    assert_eq!(found.activation, Activation::Relu2);
    // `BitNetConfig` has 5 key/value heads unless told otherwise; null means as many as heads.
    folder.unset("num_key_value_heads");
    refused(&folder, Format::Ternary, &["num_key_value_heads", "divisor of the 4", "found 5"]);
    folder.set("num_key_value_heads", Value::Null);
    refused(&folder, Format::Ternary, &["k_proj", "[64, 64]", "[64, 32]"]);
    let mut folder = Weights::new(true).folder(Form::OneBit, true);
    for key in ["rope_theta", "rms_norm_eps", "max_position_embeddings"] {
        folder.unset(key);
    }
    let found = load_hf(&open(&folder.files()), Format::Ternary).unwrap().config().clone();
    assert_eq!((found.rope_theta, found.norm_eps, found.context), (10_000.0, 1e-6, 2048));
    assert_eq!(found.activation, Activation::Silu);
    // The base where newer versions of transformers write it.
    folder.set("rope_parameters", json!({ "rope_type": "default", "rope_theta": 12345.0 }));
    assert_eq!(load_hf(&open(&folder.files()), Format::Ternary).unwrap().config().rope_theta, 12345.0);
}

fn llama3(low: f64, high: f64) -> Value {
    json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": low, "high_freq_factor": high,
        "original_max_position_embeddings": 16,
    })
}

/// As another class of transformers, with what that has besides.
fn other(class: &str, extras: &[(&str, usize)]) -> Folder {
    let mut folder = llama(Dtype::F16);
    folder.set("architectures", json!([class]));
    let mut stream = Stream(12);
    for layer in 0..2 {
        for (name, width) in extras {
            let values: Vec<f32> = (0..*width).map(|_| half::f16::from_f32(stream.unit()).to_f32()).collect();
            let name = format!("model.layers.{layer}.self_attn.{name}");
            folder.tensors.insert(name, Tensor::floats(Dtype::F32, &[*width], &values));
        }
    }
    folder
}

const QKV: [(&str, usize); 3] = [("q_proj.bias", 64), ("k_proj.bias", 32), ("v_proj.bias", 32)];

fn stored(folder: &Folder, layer: usize, name: &str) -> Option<Vec<f32>> {
    let data = &folder.tensors[&format!("model.layers.{layer}.self_attn.{name}")].data;
    Some(data.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

#[test]
fn classes_have_the_biases_and_norms_of_transformers() {
    let load = |folder: &Folder| load_hf(&open(&folder.files()), Format::F16).unwrap();
    let qwen2 = other("Qwen2ForCausalLM", &QKV);
    let model = load(&qwen2);
    for layer in 0..2 {
        let l = &model.layers()[layer];
        assert_eq!(l.q_bias, stored(&qwen2, layer, "q_proj.bias"));
        assert_eq!(l.k_bias, stored(&qwen2, layer, "k_proj.bias"));
        assert_eq!(l.v_bias, stored(&qwen2, layer, "v_proj.bias"));
        assert!(l.o_bias.is_none() && l.q_norm.is_none());
    }
    assert_ne!(logits(&model), logits(&load(&llama(Dtype::F16))));
    let norms = [("q_norm.weight", 16), ("k_norm.weight", 16)];
    let mut qwen3 = other("Qwen3ForCausalLM", &norms);
    qwen3.set("head_dim", json!(16));
    let model = load(&qwen3);
    assert_eq!(model.layers()[1].q_norm, stored(&qwen3, 1, "q_norm.weight"));
    assert_eq!(model.layers()[1].k_norm, stored(&qwen3, 1, "k_norm.weight"));
    assert!(model.config().qk_norm && !model.config().attention_bias);
    // `Qwen3Config` has heads of 128 unless told otherwise.
    qwen3.unset("head_dim");
    refused(&qwen3, Format::F16, &["q_proj", "[64, 512]"]);
    let mut all = other("LlamaForCausalLM", &[&QKV[..], &[("o_proj.bias", 64)]].concat());
    refused(&all, Format::F16, &["_proj.bias", "unused"]);
    all.set("attention_bias", json!(true));
    let model = load(&all);
    assert_eq!(model.layers()[0].o_bias, stored(&all, 0, "o_proj.bias"));
    assert_eq!(model.layers()[0].k_bias, stored(&all, 0, "k_proj.bias"));
    for class in ["Qwen2ForCausalLM", "Qwen3ForCausalLM", "MistralForCausalLM"] {
        assert!(
            load_hf(&open(&other(class, &[]).files()), Format::F16).is_err() == class.starts_with("Qwen"),
            "{class}"
        );
    }
}

#[test]
fn windows_are_as_transformers_has_them() {
    let window = |folder: &Folder| load_hf(&open(&folder.files()), Format::F16).unwrap().config().sliding_window;
    let mut mistral = other("MistralForCausalLM", &[]);
    assert_eq!(window(&mistral), Some(4096));
    assert_eq!(window(mistral.set("sliding_window", json!(8))), Some(8));
    assert_eq!(window(mistral.set("sliding_window", Value::Null)), None);
    refused(mistral.set("sliding_window", json!(0)), Format::F16, &["sliding_window", "at least 1"]);
    let mut qwen = other("Qwen2ForCausalLM", &QKV);
    assert_eq!(window(qwen.set("sliding_window", json!(8))), None);
    // 28 layers have none before any has one.
    assert_eq!(window(qwen.set("use_sliding_window", json!(true))), None);
    assert_eq!(window(qwen.set("max_window_layers", json!(0))), Some(8));
    refused(qwen.set("max_window_layers", json!(1)), Format::F16, &["sliding_window", "1 of 2 layers"]);
    assert_eq!(window(qwen.set("layer_types", json!(["sliding_attention", "sliding_attention"]))), Some(8));
    refused(qwen.set("layer_types", json!(["sliding_attention"])), Format::F16, &["layer_types", "2 of them"]);
    refused(qwen.set("layer_types", json!(["x", "y"])), Format::F16, &["layer_types", "full_attention"]);
    // `LlamaConfig` knows no window.
    assert_eq!(window(llama(Dtype::F16).set("sliding_window", json!(8))), None);
}

#[test]
fn rope_is_scaled_as_the_configuration_says() {
    let load = |key: &str, value: Value| {
        let mut folder = llama(Dtype::F16);
        folder.set(key, value);
        load_hf(&open(&folder.files()), Format::F16).unwrap().config().clone()
    };
    assert_eq!(load("rope_scaling", json!({ "type": "linear", "factor": 4.0 })).rope_factors, [4.0; 8]);
    assert!(load("rope_scaling", json!({ "rope_type": "default" })).rope_factors.is_empty());
    let old = load("rope_scaling", llama3(1.0, 4.0));
    // Pair 0 turns 16 / 2 pi = 2.5 times, between the bounds; pair 1 0.8 times, below them.
    let smooth = (16.0 / std::f64::consts::TAU - 1.0) / 3.0;
    let want = 1.0 / ((1.0 - smooth) / 8.0 + smooth);
    assert!((f64::from(old.rope_factors[0]) - want).abs() < 1e-6, "{:?}", old.rope_factors);
    assert_eq!(old.rope_factors[1..], [8.0; 7]);
    let mut new = llama3(1.0, 4.0);
    new["rope_theta"] = json!(10_000.0);
    assert_eq!(load("rope_parameters", new), old);
    // The original context is the model's own if it is not given.
    let mut short = llama3(1.0, 4.0);
    short.as_object_mut().unwrap().remove("original_max_position_embeddings");
    assert_eq!(load("rope_scaling", short.clone()).rope_factors[0], 1.0);
}

#[track_caller]
fn told(message: &str, parts: &[&str]) {
    for part in ["folder"].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

#[track_caller]
fn refused_files(files: &HashMap<String, Vec<u8>>, parts: &[&str]) {
    told(&HfFolder::from_files("folder", files).unwrap_err().to_string(), parts);
}

/// Refused when opened or when loaded.
#[track_caller]
fn refused(folder: &Folder, format: Format, parts: &[&str]) {
    let opened = HfFolder::from_files("folder", &folder.files()).map_err(engine::Error::from);
    told(&opened.and_then(|folder| load_hf(&folder, format)).unwrap_err().to_string(), parts);
}

#[test]
fn configurations_that_are_not_run_are_named() {
    let faults: &[(&str, Value, &[&str])] = &[
        (
            "architectures",
            json!(["GPT2LMHeadModel"]),
            &["LlamaForCausalLM, MistralForCausalLM", "BitnetForCausalLM", "GPT2LMHeadModel"],
        ),
        ("architectures", json!([]), &["architectures", "missing", "BitnetForCausalLM"]),
        ("architectures", json!("LlamaForCausalLM"), &["architectures", "array of strings"]),
        ("hidden_size", json!(0), &["hidden_size", "at least 1"]),
        ("hidden_size", json!(-64), &["hidden_size", "u32", "-64"]),
        ("hidden_size", json!(4_294_967_288u64), &["hidden_size", "268435456"]),
        ("hidden_size", json!("64"), &["hidden_size", "u32"]),
        ("num_attention_heads", json!(7), &["num_attention_heads", "divisor of the hidden size 64"]),
        ("num_key_value_heads", json!(3), &["num_key_value_heads", "divisor of the 4 heads"]),
        ("head_dim", json!(7), &["head_dim", "even"]),
        ("head_dim", json!(32), &["q_proj", "[64, 128]", "[64, 64]"]),
        ("vocab_size", json!(41), &["embed_tokens", "[64, 41]", "[64, 40]"]),
        ("num_hidden_layers", json!(3), &["model.layers.2.", "missing"]),
        ("num_hidden_layers", json!(1), &["model.layers.1.", "1 blocks", "unused"]),
        ("hidden_act", json!("gelu"), &["hidden_act", "silu or relu2", "gelu"]),
        ("rms_norm_eps", json!(-1.0), &["rms_norm_eps", "from 0 up"]),
        ("rope_theta", json!(0), &["rope_theta", "above 0"]),
        ("rope_scaling", json!({ "rope_type": "yarn", "factor": 4.0 }), &["rope_scaling.rope_type", "yarn"]),
        ("rope_scaling", json!({ "type": "dynamic", "factor": 4.0 }), &["rope_scaling.type", "dynamic"]),
        ("rope_parameters", json!({ "rope_type": "longrope" }), &["rope_parameters.rope_type", "longrope"]),
        ("rope_scaling", json!({ "rope_type": "linear" }), &["rope_scaling.factor", "missing"]),
        ("rope_scaling", json!({ "type": "linear", "factor": 0.0 }), &["rope_scaling.factor", "above 0"]),
        ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 }), &["rope_scaling.low_freq_factor", "missing"]),
        ("rope_scaling", llama3(4.0, 4.0), &["rope_scaling.high_freq_factor", "above low_freq_factor"]),
        ("head_dim", json!(1 << 20), &["head_dim", "at most 65536"]),
        ("attention_bias", json!(true), &["quantization_config.linear_class", "biases"]),
        ("mlp_bias", json!(true), &["mlp_bias", "false"]),
        ("partial_rotary_factor", json!(0.5), &["partial_rotary_factor", "0.5"]),
        ("quantization_config.quant_method", json!("awq"), &["quantization_config.quant_method", "bitnet", "awq"]),
        ("quantization_config.linear_class", json!("x"), &["quantization_config.linear_class", "autobitlinear"]),
        ("quantization_config.quantization_mode", json!("x"), &["quantization_mode", "offline or online"]),
        ("quantization_config.use_rms_norm", json!(true), &["use_rms_norm", "RMSNorm within"]),
        ("quantization_config.modules_to_not_convert", json!([]), &["modules_to_not_convert", "lm_head"]),
        ("quantization_config.modules_to_not_convert", json!(["model.*", "lm_head"]), &["patterns", "model.*"]),
        ("quantization_config", json!({}), &["quantization_config.quant_method", "missing"]),
        ("quantization_config", json!([]), &["quantization_config", "an object"]),
    ];
    for (key, value, parts) in faults {
        let mut folder = Weights::new(true).folder(Form::Multiplies, true);
        folder.set(key, value.clone());
        refused(&folder, Format::F16, parts);
    }
    let mut folder = Weights::new(true).folder(Form::OneBit, true);
    folder.set("input_bits", json!(4));
    refused(&folder, Format::Ternary, &["input_bits", "expected 8", "found 4"]);
    // Without a quantisation transformers runs a BitNet's weights as they stand.
    let mut folder = Weights::new(true).folder(Form::Online, true);
    folder.unset("quantization_config");
    assert_eq!(open(&folder.files()).convention(), Convention::Plain);
    refused(&folder, Format::Ternary, &["q_proj", "ternary weights", "BF16, and no quantization_config"]);
    assert!(load_hf(&open(&folder.files()), Format::F16).is_ok());
}

#[test]
fn spared_modules_are_taken_as_they_stand() {
    let mut folder = Weights::new(true).folder(Form::Online, true);
    folder.set("quantization_config.modules_to_not_convert", json!(["lm_head", "model.layers.1", "o_proj"]));
    let opened = open(&folder.files());
    let packing = |name: &str| opened.weight(name).unwrap().packing();
    assert_eq!(packing("blk.0.attn_q.weight"), Packing::Master);
    assert_eq!(packing("blk.0.attn_output.weight"), Packing::Float);
    assert_eq!(packing("blk.1.ffn_up.weight"), Packing::Float);
    assert!(load_hf(&opened, Format::F16).is_ok());
    refused(&folder, Format::Ternary, &["model.layers.0.self_attn.o_proj.weight", "ternary"]);
}

#[test]
fn weights_that_do_not_fit_the_convention_are_named() {
    let name = "model.layers.1.mlp.up_proj.weight";
    let scale = "model.layers.1.mlp.up_proj.weight_scale";
    let base = |form: Form| Weights::new(true).folder(form, true);
    for form in [Form::Multiplies, Form::Divides] {
        let mut folder = base(form);
        // Packed row 3 holds rows 3, 27, 51 and 75; column 5 at bits 4 is row 51's.
        folder.tensor(name).data[3 * 64 + 5] |= 0b11_0000;
        for format in [Format::Ternary, Format::F16] {
            refused(&folder, format, &[name, "code 3 in row 51, column 5"]);
        }
        let mut folder = base(form);
        folder.tensors.remove(scale);
        refused(&folder, Format::Ternary, &[scale, "missing"]);
        for bad in [f32::NAN, f32::INFINITY, -1.0] {
            let mut folder = base(form);
            *folder.tensor(scale) = Tensor::floats(Dtype::F32, &[1], &[bad]);
            refused(&folder, Format::Ternary, &[scale, &bad.to_string()]);
        }
        let mut folder = base(form);
        *folder.tensor(scale) = Tensor::floats(Dtype::F32, &[2], &[1.0, 1.0]);
        refused(&folder, Format::Ternary, &[scale, "one value", "[2]"]);
        let mut folder = base(form);
        folder.tensor(name).shape = vec![48, 32];
        refused(&folder, Format::Ternary, &[name, "[64, 96]", "[32, 192]"]);
    }
    for shape in [vec![0, 64], vec![1 << 62, 0]] {
        let mut folder = base(Form::Divides);
        *folder.tensor(name) = Tensor { dtype: Dtype::U8, shape, data: Vec::new() };
        let opened = open(&folder.files());
        let message = opened.weight("blk.1.ffn_up.weight").unwrap().trits().unwrap_err().to_string();
        told(&message, &[name, "at least 1"]);
        refused(&folder, Format::Ternary, &[name, "[64, 96]"]);
    }
    let mut folder = base(Form::Divides);
    *folder.tensor(scale) = Tensor::floats(Dtype::F32, &[1], &[0.0]);
    refused(&folder, Format::Ternary, &[scale, "above 0 to divide by", "found 0"]);
    // Floats where packed trits must be: four times the rows.
    let mut folder = base(Form::Divides);
    *folder.tensor(name) = Tensor::floats(Dtype::BF16, &[96, 64], &[1.0; 96 * 64]);
    refused(&folder, Format::Ternary, &[name, "[64, 96]", "[64, 384]"]);
    *folder.tensor(name) = Tensor::floats(Dtype::BF16, &[24, 64], &[1.0; 24 * 64]);
    refused(&folder, Format::Ternary, &[name, "U8", "BF16"]);
    let mut folder = base(Form::Loose);
    *folder.tensor(name) = Tensor::floats(Dtype::BF16, &[96, 64], &[0.5; 96 * 64]);
    refused(&folder, Format::Ternary, &[name, "-1, 0 and 1", "0.5 in row 0, column 0"]);
    let mut folder = base(Form::Online);
    *folder.tensor(name) = Tensor { dtype: Dtype::U8, shape: vec![96, 64], data: vec![0; 96 * 64] };
    refused(&folder, Format::Ternary, &[name, "F32, F16 or BF16", "U8"]);
    *folder.tensor(name) = Tensor { dtype: Dtype::I8, shape: vec![96, 64], data: vec![0; 96 * 64] };
    refused(&folder, Format::F16, &[name, "F32, F16 or BF16", "I8"]);
    let mut values = vec![0.5; 96 * 64];
    values[64 * 7 + 3] = f32::INFINITY;
    *folder.tensor(name) = Tensor::floats(Dtype::F32, &[96, 64], &values);
    refused(&folder, Format::Ternary, &[name, "finite", "inf in row 7, column 3"]);
}

#[test]
fn tensors_that_are_missing_or_too_many_are_named() {
    let base = |tied: bool| Weights::new(tied).folder(Form::Multiplies, tied);
    for (name, _) in NORMS {
        let name = format!("model.layers.1.{name}.weight");
        let mut folder = base(true);
        folder.tensors.remove(&name);
        refused(&folder, Format::Ternary, &[&name, "missing"]);
    }
    let extra = Tensor::floats(Dtype::F32, &[64], &[1.0; 64]);
    for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.00.input_layernorm.weight", "visual.weight", "x"]
    {
        let mut folder = base(true);
        folder.tensors.insert(name.to_owned(), extra.clone());
        refused(&folder, Format::Ternary, &[name, "unused"]);
    }
    let mut folder = base(true);
    folder.tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), extra.clone());
    assert!(load_hf(&open(&folder.files()), Format::Ternary).is_ok());
    folder.tensors.insert("model.layers.0.self_attn.inner_attn_ln.weight".to_owned(), extra);
    refused(&folder, Format::Ternary, &["inner_attn_ln", "one spelling", "attn_sub_norm"]);
    let mut folder = base(false);
    folder.tensors.remove("lm_head.weight");
    refused(&folder, Format::Ternary, &["lm_head.weight", "missing", "[64, 40]"]);
    // A tied head that is the embedding may be there as well.
    let mut folder = base(true);
    folder.tensors.insert("lm_head.weight".to_owned(), folder.tensors["model.embed_tokens.weight"].clone());
    assert!(load_hf(&open(&folder.files()), Format::Ternary).is_ok());
    folder.tensor("lm_head.weight").data[7] ^= 1;
    refused(&folder, Format::Ternary, &["lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn indexes_that_do_not_fit_are_named() {
    const INDEX: &str = "model.safetensors.index.json";
    let folder = Weights::new(true).folder(Form::Multiplies, true);
    let files = folder.sharded(2);
    let index: Value = serde_json::from_slice(&files[INDEX]).unwrap();
    let name = "model.norm.weight";
    let fault = |change: &dyn Fn(&mut Value), parts: &[&str]| {
        let (mut files, mut index) = (files.clone(), index.clone());
        change(&mut index);
        files.insert(INDEX.to_owned(), index.to_string().into_bytes());
        refused_files(&files, parts);
    };
    for path in
        ["../model-00001-of-00002.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b.safetensors", "x.bin"]
    {
        fault(&|index| index["weight_map"][name] = path.into(), &[INDEX, name, "in this folder"]);
    }
    fault(&|index| index["weight_map"][name] = "none.safetensors".into(), &[INDEX, name, "none.safetensors"]);
    fault(&|index| index["weight_map"][name] = 3.into(), &[INDEX, name, "string"]);
    fault(&|index| index["weight_map"] = Value::Null, &[INDEX, "an object"]);
    fault(&|index| *index = json!({}), &[INDEX, "weight_map"]);
    fault(
        &|index| index["weight_map"]["ghost"] = index["weight_map"][name].clone(),
        &[INDEX, "ghost", "no such tensor"],
    );
    let drop = |index: &mut Value| {
        index["weight_map"].as_object_mut().unwrap().remove(name);
    };
    fault(&drop, &["of-00002.safetensors", name, INDEX]);
    let other = |index: &mut Value| {
        let first = "model-00001-of-00002.safetensors";
        let map = &mut index["weight_map"];
        map[name] = if map[name] == first { "model-00002-of-00002.safetensors" } else { first }.into();
    };
    fault(&other, &["of-00002.safetensors", name, "it here"]);
    let mut twice = files.clone();
    let text = index.to_string().replacen(&format!("\"{name}\""), &format!("\"{name}\":\"x\",\"{name}\""), 1);
    twice.insert(INDEX.to_owned(), text.into_bytes());
    refused_files(&twice, &[INDEX, name, "second time"]);
    // The same tensor in both files.
    let mut both = files.clone();
    let copy = files["model-00001-of-00002.safetensors"].clone();
    both.insert("model-00002-of-00002.safetensors".to_owned(), copy);
    refused_files(&both, &["model-00002-of-00002.safetensors", "it here"]);
    let mut none = files.clone();
    none.remove(INDEX);
    refused_files(&none, &["model.safetensors or model.safetensors.index.json", "neither"]);
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let good = entry("F32", "[2]", 0, 8);
    let faults: &[(String, &[&str])] = &[
        ("{}".to_owned(), &["cover all 8 bytes", "0 bytes"]),
        ("[]".to_owned(), &["header", "JSON"]),
        (format!(r#"{{"a":{good},"a":{good}}}"#), &["a a second time"]),
        (format!(r#"{{"a":{good},"b":{good}}}"#), &["tensor b", "from 8 on", "found 0"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[1]", 0, 4)), &["8 bytes", "4 bytes covered"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[1]", 4, 8)), &["tensor a", "from 0 on", "found 4"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[3]", 0, 8)), &["tensor a", "12 bytes", "[3], F32", "found 8"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[3]", 0, 12)), &["tensor a", "at most 8", "[0, 12]"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[2]", 8, 0)), &["tensor a", "[8, 0]"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[2]", 0, u64::MAX)), &["tensor a", "at most 8"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[4294967296,4294967296]", 0, 8)), &["tensor a", "64 bits"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[-1]", 0, 8)), &["tensor a", "-1"]),
        (format!(r#"{{"a":{}}}"#, entry("F32", "[2.5]", 0, 8)), &["tensor a", "2.5"]),
        (r#"{"a":{"dtype":"F32","shape":[2]}}"#.to_owned(), &["tensor a", "data_offsets"]),
        (r#"{"a":5}"#.to_owned(), &["tensor a", "5"]),
        (r#"{"a":{"dtype":"F32","#.to_owned(), &["header", "EOF"]),
    ];
    let mut files = Weights::new(true).folder(Form::Multiplies, true).files();
    for (header, parts) in faults {
        files.insert("model.safetensors".to_owned(), raw(header, &[0; 8]));
        refused_files(&files, &[&["model.safetensors"], *parts].concat());
    }
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    for (bytes, part) in
        [(vec![0; 7], "8 bytes"), (huge, "at most 100000000"), (raw("{}", &[])[..9].to_vec(), "2 bytes")]
    {
        files.insert("model.safetensors".to_owned(), bytes);
        refused_files(&files, &["model.safetensors", part]);
    }
    // Whatever a tensor's dtype, it may be there; zero dimensions and scalars too.
    let odd = [("F8_E4M3", "[8]", 0, 8), ("F32", "[0,9223372036854775807]", 8, 8), ("U8", "[]", 8, 9)];
    let odd = odd
        .iter()
        .enumerate()
        .map(|(i, &(dtype, shape, from, to))| format!(r#""t{i}":{}"#, entry(dtype, shape, from, to)));
    let header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, odd.collect::<Vec<_>>().join(","));
    files.insert("model.safetensors".to_owned(), raw(&header, &[0; 9]));
    let folder = open(&files);
    assert_eq!(folder.tensor("t0").unwrap().dtype().to_string(), "F8_E4M3");
    assert_eq!((folder.tensor("t1").unwrap().rows(), folder.tensor("t2").unwrap().cols()), (0, 1));
    assert!(load_hf(&folder, Format::F16).is_err());
}

#[test]
fn files_cut_or_flipped_never_panic() {
    let folder = Weights::new(true).folder(Form::Multiplies, true);
    let files = folder.sharded(2);
    let try_all = |files: &HashMap<String, Vec<u8>>| {
        let opened = HfFolder::from_files("folder", files).map_err(engine::Error::from);
        opened.and_then(|folder| load_hf(&folder, Format::Ternary)).is_ok()
    };
    assert!(try_all(&files));
    let mut stream = Stream(11);
    for (name, bytes) in &files {
        let header = bytes.len().min(6000);
        for _ in 0..150 {
            let mut files = files.clone();
            let mut spoilt = bytes.clone();
            spoilt[stream.below(header)] ^= 1 << stream.below(8);
            files.insert(name.clone(), spoilt);
            try_all(&files);
            files.insert(name.clone(), bytes[..stream.below(bytes.len())].to_vec());
            assert!(!try_all(&files), "{name} cut short");
        }
    }
}
