//! Hugging Face folders: one BitNet model under every convention is the model made by hand, bit for bit, in both
//! engines, and configurations mean what they mean to transformers.

mod common;

use common::bitnet::{Form, LINEARS, VOCAB, Weights, config};
use common::folder::{Folder, Tensor, llama3, open, refused};
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

#[test]
fn every_convention_holds_the_same_model() {
    for tied in [true, false] {
        let weights = Weights::new(tied);
        for (form, convention) in FORMS {
            let folder = weights.folder(form, tied);
            let activation = if form == Form::OneBit { Activation::Silu } else { Activation::Relu2 };
            for format in [Format::Ternary, Format::Base3, Format::F16] {
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
