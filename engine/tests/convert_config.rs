//! What `config.json` says of a GGUF file's model, and back: RoPE's rule, windows, biases. What it cannot say is refused.

mod common;

use common::place::{Place, X86, folder_options, logits, options, spec, tensors, writer_of};
use engine::convert::{FolderOptions, Target, gguf_to_hf, hf_to_gguf, synthetic_to_gguf};
use engine::formats::HfFolder;
use engine::formats::gguf::{GgufFile, TensorType};
use engine::model::{Architecture, Config, Format, Llama3Scaling, RopeStyle, check_gguf, load_gguf, load_hf};
use engine::synthetic::{HeadType, SyntheticSpec};
use serde_json::{Value, json};

fn llama() -> Config {
    spec(Architecture::Llama).config
}

fn llama3(factor: f64, original_context: usize) -> Vec<f32> {
    let scaling = Llama3Scaling { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context };
    scaling.factors(64, 500_000.0).unwrap()
}

/// A model of this configuration, as `a.gguf`.
fn place(config: &Config) -> Place {
    let place = Place(tempfile::tempdir().unwrap());
    let spec = SyntheticSpec { config: config.clone(), seed: 9, head: HeadType::F16, gate_zeros: None };
    synthetic_to_gguf(&spec, &place.path("a.gguf"), &options(X86)).unwrap();
    place
}

fn config_json(place: &Place, folder: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(folder).join("config.json")).unwrap()).unwrap()
}

/// Folders that every model here can become: scales that divide, and floats.
fn targets() -> [FolderOptions; 2] {
    let mut packed = folder_options(Target::Hf);
    packed.options.inverse = true;
    [packed, folder_options(Target::Float(TensorType::F32))]
}

/// There and back: the configuration, the function, and every byte.
fn goes_both_ways(place: &Place, class: &str, has: &Value) {
    for (nth, how) in targets().iter().enumerate() {
        let (folder, back) = (format!("hf{nth}"), format!("b{nth}.gguf"));
        let there = place.out("a.gguf", &folder, how);
        assert!(there.inexact.iter().all(|line| line.contains("inverse")), "{:?}", there.inexact);
        let json = config_json(place, &folder);
        assert_eq!(json["architectures"], json!([class]));
        for (key, value) in has.as_object().unwrap() {
            assert_eq!(&json[key], value, "{class} {key}");
        }
        let first = load_gguf(&place.file("a.gguf"), Format::Ternary).unwrap();
        let second = load_hf(&place.folder(&folder), if nth == 0 { Format::Ternary } else { Format::F16 }).unwrap();
        let want = Config { rope: RopeStyle::Neox, ..first.config().clone() };
        assert_eq!(*second.config(), want);
        if nth == 0 && there.inexact.is_empty() {
            let (found, want) = (logits(&second), logits(&first));
            let worst = found.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let bound = if first.config().rope == RopeStyle::Neox { 0.0 } else { 0.02 };
            assert!(worst <= bound, "{class}: {worst}");
        }
        let report = place.back(&folder, &back, &options(X86));
        assert_eq!(report.inexact, Vec::<String>::new());
        if there.inexact.is_empty() {
            assert!(tensors(&place.file("a.gguf")) == tensors(&place.file(&back)), "{class}");
        }
        let again = check_gguf(&place.file(&back)).unwrap();
        assert_eq!(again, check_gguf(&place.file("a.gguf")).unwrap());
    }
}

#[test]
fn rope_factors_go_both_ways_by_their_rule() {
    for (factor, original) in [(8.0, 8192), (32.0, 8192), (2.0, 2048), (64.0, 131_072)] {
        let place = place(&Config { rope_factors: llama3(factor, original), ..llama() });
        let rule = json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": original,
        });
        goes_both_ways(&place, "LlamaForCausalLM", &json!({ "rope_scaling": rule }));
    }
    for factor in [4.0, 2.3f32] {
        let place = place(&Config { rope_factors: vec![factor; 32], ..llama() });
        let rule = json!({ "rope_type": "linear", "factor": f64::from(factor) });
        goes_both_ways(&place, "LlamaForCausalLM", &json!({ "rope_scaling": rule }));
    }
}

/// As `Llama3Scaling`, in f32: what llama.cpp's converter does in torch.
fn in_f32(factor: f32, original: f32) -> Vec<f32> {
    let divisor = |pair: i32| {
        let frequency = 1.0 / 500_000f32.powf(pair as f32 * 2.0 / 64.0);
        let wave = 2.0 * std::f32::consts::PI / frequency;
        let smooth = (original / wave - 1.0) / 3.0;
        match wave {
            wave if wave < original / 4.0 => 1.0,
            wave if wave > original => factor,
            _ => 1.0 / ((1.0 - smooth) / factor + smooth),
        }
    };
    (0..32).map(divisor).collect()
}

#[test]
fn factors_of_the_rule_in_f32_are_written_and_told() {
    let (rough, exact) = (in_f32(32.0, 8192.0), llama3(32.0, 8192));
    assert!(rough != exact, "f32 rounds");
    let place = place(&Config { rope_factors: rough, ..llama() });
    let report = place.out("a.gguf", "hf", &folder_options(Target::Hf));
    assert_eq!(report.inexact.len(), 1);
    assert!(report.inexact[0].contains("rope_freqs.weight") && report.inexact[0].contains("ulp"), "{report:?}");
    assert_eq!(config_json(&place, "hf")["rope_scaling"]["factor"], 32.0);
    assert_eq!(load_hf(&place.folder("hf"), Format::Ternary).unwrap().config().rope_factors, exact);
}

#[test]
fn windows_go_both_ways() {
    let window = json!({ "sliding_window": 3 });
    goes_both_ways(&place(&Config { sliding_window: Some(3), ..llama() }), "MistralForCausalLM", &window);
    let upper = json!({ "sliding_window": 3, "use_sliding_window": true, "max_window_layers": 0 });
    let qwen2 = Config { sliding_window: Some(3), attention_bias: true, ..llama() };
    goes_both_ways(&place(&qwen2), "Qwen2ForCausalLM", &upper);
    let qwen3 = Config { sliding_window: Some(3), qk_norm: true, head_dim: 128, ..llama() };
    goes_both_ways(&place(&qwen3), "Qwen3ForCausalLM", &upper);
    goes_both_ways(&place(&Config { qk_norm: true, ..llama() }), "Qwen3ForCausalLM", &json!({}));
}

/// The value that the other order of RoPE's pairs has in a place: (2 i, 2 i + 1) for (i, i + d/2).
fn halves(values: &[f32], head: usize) -> Vec<f32> {
    let of_head =
        |head: &[f32]| -> Vec<f32> { head.iter().step_by(2).chain(head.iter().skip(1).step_by(2)).copied().collect() };
    values.chunks(head).flat_map(of_head).collect()
}

#[test]
fn biases_go_both_ways_in_the_order_of_their_rows() {
    let place = place(&Config { attention_bias: true, output_bias: true, ..llama() });
    goes_both_ways(&place, "LlamaForCausalLM", &json!({ "attention_bias": true }));
    let (file, folder) = (place.file("a.gguf"), place.folder("hf1"));
    for (name, turns) in [("attn_q", true), ("attn_k", true), ("attn_v", false), ("attn_output", false)] {
        let name = format!("blk.1.{name}.bias");
        let tensor = file.tensor(&name).unwrap();
        let mut values = vec![0.0; tensor.cols()];
        file.row_to_f32(tensor, 0, &mut values).unwrap();
        let mut found = vec![0.0; values.len()];
        folder.weight(&name).unwrap().row_to_f32(0, &mut found).unwrap();
        assert!(halves(&values, 64) != values, "{name}");
        assert!(found == if turns { halves(&values, 64) } else { values }, "{name}");
    }
}

/// `llama` without a bias of the attention's output is Qwen2 by another name, whose files have another order.
#[test]
fn biases_of_three_layers_are_those_of_qwen2() {
    let place = place(&Config { attention_bias: true, output_bias: true, ..llama() });
    let mut writer = writer_of(&place.file("a.gguf"));
    writer.tensors.retain(|tensor| !tensor.name.ends_with("attn_output.bias"));
    std::fs::write(place.path("three.gguf"), writer.bytes()).unwrap();
    place.out("three.gguf", "hf", &targets()[1]);
    assert_eq!(config_json(&place, "hf")["architectures"], json!(["Qwen2ForCausalLM"]));
    place.back("hf", "b.gguf", &options(X86));
    let [first, last] = ["three.gguf", "b.gguf"].map(|name| load_gguf(&place.file(name), Format::Ternary).unwrap());
    assert_eq!(*last.config(), Config { rope: RopeStyle::Neox, ..first.config().clone() });
    let worst = logits(&first).iter().zip(&logits(&last)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.02, "{worst}");
}

#[track_caller]
fn refused(file: &GgufFile, how: &FolderOptions, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let message = gguf_to_hf(file, &folder.path().join("hf"), how).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of what failed");
}

#[test]
fn what_no_config_says_is_refused() {
    let floats = &targets()[1];
    let both = Config { attention_bias: true, output_bias: true, ..llama() };
    let mut odd = llama3(8.0, 8192);
    odd[16] *= 1.001;
    refused(&place(&Config { rope_factors: odd, ..llama() }).file("a.gguf"), floats, &["rope_factors", "llama3", "32"]);
    let odd = llama3(8.0, 5000);
    refused(
        &place(&Config { rope_factors: odd, ..llama() }).file("a.gguf"),
        floats,
        &["rope_factors", "2048", "131072"],
    );
    let windowed = Config { sliding_window: Some(3), ..both.clone() };
    refused(&place(&windowed).file("a.gguf"), floats, &["sliding_window", "bias"]);
    let bitnet = Config { sliding_window: Some(3), ..spec(Architecture::BitNet).config };
    refused(&place(&bitnet).file("a.gguf"), floats, &["sliding_window", "BitNet"]);
    // transformers' AutoBitLinear multiplies the bias too.
    let biased = place(&both);
    refused(&biased.file("a.gguf"), &folder_options(Target::Hf), &["attention_bias", "autobitlinear", "inverse"]);
    let mut writer = writer_of(&biased.file("a.gguf"));
    let inputs = ["attn_q.bias", "attn_k.bias", "attn_v.bias"];
    writer.tensors.retain(|tensor| !inputs.iter().any(|input| tensor.name.ends_with(input)));
    let output_alone = GgufFile::from_bytes("test.gguf", writer.bytes()).unwrap();
    refused(&output_alone, floats, &["output_bias"]);
}

#[test]
fn a_folder_whose_scales_would_multiply_biases_is_refused() {
    let place = place(&Config { attention_bias: true, output_bias: true, ..llama() });
    place.out("a.gguf", "hf", &targets()[0]);
    let path = place.path("hf").join("config.json");
    let mut config = config_json(&place, "hf");
    config["quantization_config"]["linear_class"] = json!("autobitlinear");
    std::fs::write(path, config.to_string()).unwrap();
    let folder = HfFolder::open(place.path("hf")).unwrap();
    let message = hf_to_gguf(&folder, &place.path("b.gguf"), &options(X86)).unwrap_err().to_string();
    assert!(message.contains("linear_class") && message.contains("bitlinear"), "{message}");
}
