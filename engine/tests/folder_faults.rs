//! What is wrong with a Hugging Face folder is named: the file, the key or tensor, what was expected and what was found.

mod common;

use std::collections::HashMap;

use common::Stream;
use common::bitnet::{Form, NORMS, Weights};
use common::folder::{Tensor, llama3, open, raw, refused, refused_files, told};
use engine::formats::HfFolder;
use engine::formats::safetensors::Convention;
use engine::model::{Format, load_hf};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

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
        // Too small and too large for f16, whichever way it is taken.
        for bad in [1e-30, 1e30] {
            let mut folder = base(form);
            *folder.tensor(scale) = Tensor::floats(Dtype::F32, &[1], &[bad]);
            refused(&folder, Format::F16, &[name, "a scale that fits f16, found "]);
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
