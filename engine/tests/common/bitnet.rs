//! One small BitNet model, by hand and in the forms of Hugging Face folders.

use std::collections::BTreeMap;

use engine::linear::Linear;
use engine::model::{Activation, Config, Format, Layer, Model};
use engine::quant::{Base3Matrix, F16Matrix, TernaryMatrix};
use half::f16;
use safetensors::tensor::Dtype;
use serde_json::json;

use super::folder::{Folder, Tensor};
use super::{Stream, small};

/// A power of two, so that its inverse is a number too.
pub const SCALE: f32 = 0.03125;
pub const VOCAB: usize = 40;

/// How the linear layers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Multiplies,
    Divides,
    Loose,
    Online,
    OneBit,
}

/// Names in Hugging Face's files, rows and columns.
pub const LINEARS: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 64, 64),
    ("self_attn.k_proj", 32, 64),
    ("self_attn.v_proj", 32, 64),
    ("self_attn.o_proj", 64, 64),
    ("mlp.gate_proj", 96, 64),
    ("mlp.up_proj", 96, 64),
    ("mlp.down_proj", 64, 96),
];
pub const NORMS: [(&str, usize); 4] = [
    ("input_layernorm", 64),
    ("post_attention_layernorm", 64),
    ("self_attn.attn_sub_norm", 64),
    ("mlp.ffn_sub_norm", 96),
];

pub fn config(tied: bool, activation: Activation) -> Config {
    Config { vocab: VOCAB, activation, tied, ..small() }
}

/// The weights, whatever the form.
pub struct Weights {
    floats: BTreeMap<String, Vec<f32>>,
    trits: BTreeMap<String, Vec<i8>>,
}

impl Weights {
    pub fn new(tied: bool) -> Weights {
        let (mut floats, mut trits, mut stream) = (BTreeMap::new(), BTreeMap::new(), Stream(5));
        let mut some = |len: usize, offset: f32| -> Vec<f32> {
            (0..len).map(|_| f16::from_f32(offset + 0.5 * stream.unit()).to_f32()).collect()
        };
        floats.insert("model.embed_tokens.weight".to_owned(), some(VOCAB * 64, 0.0));
        if !tied {
            floats.insert("lm_head.weight".to_owned(), some(VOCAB * 64, 0.0));
        }
        floats.insert("model.norm.weight".to_owned(), some(64, 1.0));
        let mut stream = Stream(6);
        for layer in 0..2 {
            for (name, width) in NORMS {
                floats.insert(format!("model.layers.{layer}.{name}.weight"), some(width, 1.0));
            }
            for (name, rows, cols) in LINEARS {
                // As many zeros as others, so that magnitudes of twice the scale have it for their mean.
                let mut weights: Vec<i8> = (0..rows * cols).map(|i| [0, 1, 0, -1][i % 4]).collect();
                (1..weights.len()).rev().for_each(|i| weights.swap(i, stream.below(i + 1)));
                trits.insert(format!("model.layers.{layer}.{name}.weight"), weights);
            }
        }
        Weights { floats, trits }
    }

    /// The model, without any file.
    pub fn model(&self, config: &Config, format: Format) -> Model {
        let matrix = |name: &str| {
            let values = &self.floats[name];
            let fill = |row: usize, out: &mut [f16]| {
                out.iter_mut().enumerate().for_each(|(col, out)| *out = f16::from_f32(values[row * 64 + col]));
                Ok(())
            };
            Linear::F16(F16Matrix::from_rows(VOCAB, 64, fill).unwrap())
        };
        let layer = |index: usize| {
            let norm = |name: &str| self.floats[&format!("model.layers.{index}.{name}.weight")].clone();
            let mut linears = LINEARS.iter().map(|(name, rows, cols)| {
                let trits = &self.trits[&format!("model.layers.{index}.{name}.weight")];
                let weight = |row: usize, col: usize| trits[row * cols + col];
                let matrix = TernaryMatrix::from_codes(*rows, *cols, SCALE, weight).unwrap();
                match format {
                    Format::Ternary => Linear::Ternary(matrix),
                    Format::Base3 => Linear::Base3(Base3Matrix::from_codes(*rows, *cols, SCALE, weight).unwrap()),
                    _ => Linear::F16(F16Matrix::from_ternary(&matrix).unwrap()),
                }
            });
            let mut next = || linears.next().unwrap();
            Layer {
                q: next(),
                k: next(),
                v: next(),
                o: next(),
                gate: next(),
                up: next(),
                down: next(),
                q_bias: None,
                k_bias: None,
                v_bias: None,
                o_bias: None,
                q_norm: None,
                k_norm: None,
                attn_norm: norm("input_layernorm"),
                ffn_norm: norm("post_attention_layernorm"),
                attn_sub_norm: Some(norm("self_attn.attn_sub_norm")),
                ffn_sub_norm: Some(norm("mlp.ffn_sub_norm")),
            }
        };
        let head = (!config.tied).then(|| matrix("lm_head.weight"));
        let norm = self.floats["model.norm.weight"].clone();
        Model::new(config.clone(), matrix("model.embed_tokens.weight"), vec![layer(0), layer(1)], norm, head).unwrap()
    }

    /// The model as a folder.
    pub fn folder(&self, form: Form, tied: bool) -> Folder {
        let one_bit = form == Form::OneBit;
        let mut config = json!({
            "architectures": [if one_bit { "BitnetForCausalLM" } else { "BitNetForCausalLM" }],
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
            "rope_theta": 500_000.0, "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "model_type": "bitnet",
        });
        config["quantization_config"] = match form {
            Form::Multiplies | Form::Loose => {
                json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline" })
            }
            Form::Divides => json!({ "quant_method": "bitnet" }),
            Form::Online => {
                json!({ "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online" })
            }
            Form::OneBit => serde_json::Value::Null,
        };
        let mut tensors = BTreeMap::new();
        for (name, values) in &self.floats {
            let shape = if values.len() == VOCAB * 64 { vec![VOCAB, 64] } else { vec![values.len()] };
            let spelt = match one_bit {
                true => name.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm"),
                false => name.clone(),
            };
            tensors.insert(spelt, Tensor::floats(Dtype::F16, &shape, values));
        }
        for (name, trits) in &self.trits {
            let (_, rows, cols) = LINEARS.into_iter().find(|(part, ..)| name.contains(part)).unwrap();
            let floats = |scale: f32| {
                let values: Vec<f32> = trits.iter().map(|&trit| f32::from(trit) * scale).collect();
                Tensor::floats(if one_bit { Dtype::F32 } else { Dtype::BF16 }, &[rows, cols], &values)
            };
            let (weight, scale) = match form {
                Form::Multiplies => (Tensor::packed(rows, cols, trits), Some(SCALE)),
                Form::Divides => (Tensor::packed(rows, cols, trits), Some(1.0 / SCALE)),
                Form::Loose => (floats(1.0), Some(SCALE)),
                Form::Online | Form::OneBit => (floats(2.0 * SCALE), None),
            };
            tensors.insert(name.clone(), weight);
            if let Some(scale) = scale {
                tensors.insert(format!("{name}_scale"), Tensor::floats(Dtype::BF16, &[1], &[scale]));
            }
        }
        Folder { config, tensors }
    }
}
