//! A trained twin as a Hugging Face folder: `config.json`, `model.safetensors`, the tokenizer.
//!
//! The ternary one is packed as transformers has it (`autobitlinear`, `offline`: four trits a byte, `weight_scale` beside
//! them multiplies). The fp16 one has the same architecture without `quantization_config`. Embedding and norms are f16 and
//! f32 in both.

use crate::model::{Mode, Shape, is_linear};
use crate::ops::quant::{absmean, trit};
use crate::train::{Plan, State};
use anyhow::{Context as _, Result};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::path::Path;

/// A tensor to be written.
struct Written {
    name: String,
    dtype: Dtype,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes the folder `out`; the tokenizer is that of the training's folder `from`.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write(plan: &Plan, state: &State, from: &Path, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let mut tensors = Vec::new();
    for (name, var) in &state.model.weights {
        let values = var.flatten_all()?.to_vec1::<f32>()?;
        let dims = var.dims().to_vec();
        match plan.mode {
            Mode::Ternary if is_linear(name) => tensors.extend(packed(name, &dims, &values)),
            _ if dims.len() == 1 => {
                tensors.push(Written { name: name.clone(), dtype: Dtype::F32, dims, bytes: f32s(&values) })
            }
            _ => tensors.push(Written { name: name.clone(), dtype: Dtype::F16, dims, bytes: f16s(&values) }),
        }
    }
    let mut views = Vec::new();
    for tensor in &tensors {
        views.push((tensor.name.as_str(), TensorView::new(tensor.dtype, tensor.dims.clone(), &tensor.bytes)?));
    }
    safetensors::serialize_to_file(views, None, &out.join("model.safetensors"))?;
    let config = config(&plan.shape, plan.mode);
    std::fs::write(out.join("config.json"), format!("{config:#}\n"))?;
    for file in ["tokenizer.json", "tokenizer_config.json", "plan.json", "loss.csv"] {
        let path = from.join(file);
        std::fs::copy(&path, out.join(file)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn f16s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

/// Trits and their scale: bits 2 i of byte (r, c) hold row r + i R, column c, of 4 R rows.
fn packed(name: &str, dims: &[usize], values: &[f32]) -> [Written; 2] {
    let (scale, quarter) = (absmean(values), values.len() / 4);
    let code = |value: f32| (trit(value, scale) + 1) as u8;
    let byte = |at: usize| (0..4).fold(0, |byte, i| byte | code(values[at + i * quarter]) << (2 * i));
    let bytes = (0..quarter).map(byte).collect();
    let scales = f32s(&[scale]);
    [
        Written { name: name.to_owned(), dtype: Dtype::U8, dims: vec![dims[0] / 4, dims[1]], bytes },
        Written { name: format!("{name}_scale"), dtype: Dtype::F32, dims: vec![1], bytes: scales },
    ]
}

fn config(shape: &Shape, mode: Mode) -> Value {
    let mut config = json!({
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head(),
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": shape.theta,
        "hidden_act": "relu2",
        "attention_bias": false,
        "tie_word_embeddings": true,
        "bos_token_id": crate::tokens::BOS,
        "eos_token_id": crate::tokens::EOS,
        "torch_dtype": "float16",
    });
    if mode == Mode::Ternary {
        config["quantization_config"] =
            json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline" });
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_trits_come_back() {
        let values: Vec<f32> = (0..32).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
        let [packed, _] = packed("w", &[8, 4], &values);
        let scale = absmean(&values);
        for (at, value) in values.iter().enumerate() {
            let (byte, i) = (packed.bytes[at % 8], at / 8);
            assert_eq!((byte >> (2 * i) & 3) as i8 - 1, trit(*value, scale));
        }
    }
}
