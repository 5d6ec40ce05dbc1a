//! A weight that is no finite number is refused when it is loaded, with its tensor and place: every tensor of GGUF files
//! and Hugging Face folders, biases, norms and scales too, in every float type.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::folder::{Folder, Tensor, refused};
use common::{small, small_llama, synthetic_file};
use engine::convert::Target;
use engine::formats::GgufFile;
use engine::formats::gguf::{I2sLayout, TensorInfo, TensorType};
use engine::model::{Config, Format, RopeStyle, load_gguf};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::json;

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// A value of the tensor spoilt: where its bytes lie within the tensor, how it is told, and the bytes.
fn spoil_gguf(tensor: &TensorInfo, bad: f32, share: usize) -> (usize, String, Vec<u8>) {
    let (len, cols) = (tensor.bytes().len(), tensor.cols());
    let at = (tensor.rows() * cols - 1) * share / 2;
    let place = format!("row {}, column {}", at / cols, at % cols);
    match tensor.kind() {
        TensorType::F32 => (4 * at, place, bad.to_le_bytes().to_vec()),
        TensorType::F16 => (2 * at, place, f16::from_f32(bad).to_le_bytes().to_vec()),
        TensorType::BF16 => (2 * at, place, bf16::from_f32(bad).to_le_bytes().to_vec()),
        TensorType::I2S => (len - 32, "a scale that is a finite number".to_owned(), bad.to_le_bytes().to_vec()),
        other => panic!("a tensor of {other}"),
    }
}

/// Every tensor of the model's file, at its begin, middle and end.
fn gguf(config: Config, target: Target, formats: &[Format], tensors: usize) {
    let bytes = synthetic_file(config, target);
    let file = GgufFile::from_bytes("test.gguf", bytes.clone()).unwrap();
    formats.iter().for_each(|&format| drop(load_gguf(&file, format).unwrap()));
    assert_eq!(file.tensors().len(), tensors);
    for tensor in file.tensors() {
        for (share, bad) in BAD.into_iter().enumerate() {
            let (at, place, value) = spoil_gguf(tensor, bad, share);
            let mut spoilt = bytes.clone();
            spoilt[tensor.bytes().start + at..][..value.len()].copy_from_slice(&value);
            let file = GgufFile::from_bytes("test.gguf", spoilt).unwrap();
            for &format in formats {
                let message = load_gguf(&file, format).unwrap_err().to_string();
                for part in ["test.gguf: ", &format!("tensor {}: ", tensor.name()), &place, &bad.to_string()] {
                    assert!(message.contains(part), "{format:?}: {part:?} is not in: {message}");
                }
            }
        }
    }
}

/// Three tensors outside of blocks, or two; in each of two blocks seven matrices, two norms, and what the model has else.
#[test]
fn gguf_files() {
    let all = [Format::F16, Format::Bf16, Format::Reference];
    let qwen2 = Config { attention_bias: true, tied: true, ..small_llama() };
    let qwen3 = Config { qk_norm: true, ..small_llama() };
    let biased = Config { attention_bias: true, output_bias: true, rope: RopeStyle::Interleaved, ..small_llama() };
    let floats = [TensorType::F32, TensorType::F16, TensorType::BF16];
    for (config, tensors) in [(qwen2, 2 + 2 * 12), (qwen3, 3 + 2 * 11), (biased.clone(), 3 + 2 * 13)] {
        for kind in floats {
            gguf(config.clone(), Target::Float(kind), &all, tensors);
        }
    }
    let i2s = Target::I2s(I2sLayout::Blocks128);
    let ternary = [Format::Ternary, Format::F16, Format::Reference];
    gguf(small(), i2s, &ternary, 2 + 2 * 11);
    gguf(biased, i2s, &ternary, 3 + 2 * 13);
}

/// A folder of `golden/hf`.
fn golden(name: &str) -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hf").join(name);
    let bytes = std::fs::read(path.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter().map(|(name, view)| {
        let tensor = Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), data: view.data().to_vec() };
        (name.to_owned(), tensor)
    });
    let config = serde_json::from_slice(&std::fs::read(path.join("config.json")).unwrap()).unwrap();
    Folder { config, tensors: tensors.collect::<BTreeMap<_, _>>() }
}

/// Every tensor of floats of the folder, at its begin, middle and end.
fn hf(folder: &Folder, formats: &[Format]) {
    let floats = folder.tensors.iter().filter(|(_, tensor)| tensor.dtype != Dtype::U8);
    for (name, tensor) in floats {
        let (count, cols) = (tensor.shape.iter().product::<usize>(), tensor.shape[tensor.shape.len() - 1]);
        for (share, bad) in BAD.into_iter().enumerate() {
            let at = (count - 1) * share / 2;
            let value = Tensor::floats(tensor.dtype, &[1], &[bad]).data;
            let mut spoilt = folder.clone();
            spoilt.tensor(name).data[at * value.len()..][..value.len()].copy_from_slice(&value);
            let place = format!("{bad} in row {}, column {}", at / cols, at % cols);
            for &format in formats {
                refused(&spoilt, format, &["model.safetensors", &format!("tensor {name}: "), &place]);
            }
        }
    }
}

#[test]
fn folders() {
    let ternary = [Format::Ternary, Format::F16, Format::Reference];
    for name in ["bitnet-offline-untied", "bitnet-legacy-tied", "bitnet-online-tied", "llama-bitlinear"] {
        hf(&golden(name), &ternary);
    }
    let all = [Format::F16, Format::Bf16, Format::Reference];
    for name in ["qwen2-tied", "qwen3-untied"] {
        hf(&golden(name), &all);
    }
    // LLaMA with biases, floats in the two other types.
    let mut biased = golden("llama-untied-linear");
    biased.set("attention_bias", json!(true));
    let width = |name: &str| biased.tensors[name].shape[0];
    let name = |layer: usize, part: &str| format!("model.layers.{layer}.self_attn.{part}_proj.");
    let biases = (0..2).flat_map(|layer| ["q", "k", "v", "o"].map(|part| name(layer, part)));
    let biases: Vec<_> = biases.map(|name| (name.clone() + "bias", width(&(name + "weight")))).collect();
    for dtype in [Dtype::F16, Dtype::F32] {
        for (name, width) in &biases {
            biased.tensors.insert(name.clone(), Tensor::floats(dtype, &[*width], &vec![0.5; *width]));
        }
        hf(&biased, &all);
    }
    for bias in biases {
        biased.tensors.remove(&bias.0);
    }
    refused(&biased, Format::F16, &["_proj.bias", "missing"]);
}
