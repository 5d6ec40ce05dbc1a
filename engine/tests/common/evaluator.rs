//! BitNet b1.58 once more: in f64, from the bytes of a Hugging Face folder, sharing no code with the engine, with
//! mistakes to plant. Conventions are those of transformers' `integrations/bitnet.py`.

use std::collections::HashMap;
use std::path::Path;

use half::bf16;
use serde_json::Value;

use super::Stream;

/// A mistake of the kind that still yields plausible logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// Activations as they are.
    NoActivationQuantisation,
    /// Activations cut to the integer below in magnitude instead of rounded.
    Truncation,
    /// Dividing by a scale that multiplies, or the other way about.
    InverseScale,
    MissingSubNorms,
    /// SiLU for ReLU², ReLU² for SiLU.
    OtherActivation,
    /// (2i, 2i + 1) turn together instead of (i, i + d/2).
    OtherRope,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 6] = [
        Fault::NoActivationQuantisation,
        Fault::Truncation,
        Fault::InverseScale,
        Fault::MissingSubNorms,
        Fault::OtherActivation,
        Fault::OtherRope,
    ];
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub fault: Fault,
    /// Activations are moved by up to this part of their token's largest before they are rounded: what an
    /// implementation in f32 does to them, by its own order of operations.
    pub noise: f64,
    /// Another seed, other noise.
    pub seed: u64,
}

impl How {
    pub fn faulty(fault: Fault) -> How {
        How { fault, noise: 0.0, seed: 0 }
    }
}

struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A matrix of a linear layer: trits (or what is to be one) times one scale.
struct Matrix {
    cols: usize,
    values: Vec<f64>,
    /// What the trits are multiplied by, and what they would be if the convention were taken the other way.
    scale: f64,
    inverse: f64,
}

/// A checkpoint, and the evaluation of it.
pub struct Checkpoint {
    config: Value,
    tensors: HashMap<String, Tensor>,
    matrices: HashMap<String, Matrix>,
}

impl Checkpoint {
    pub fn open(folder: &Path) -> Checkpoint {
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let config: Value = serde_json::from_slice(&read("config.json")).unwrap();
        let tensors = tensors(&read("model.safetensors"));
        let mut checkpoint = Checkpoint { config, tensors, matrices: HashMap::new() };
        let linears = checkpoint.tensors.keys().filter(|name| name.ends_with("_proj.weight"));
        checkpoint.matrices = linears.map(|name| (name.clone(), checkpoint.matrix(name))).collect();
        checkpoint
    }

    fn number(&self, key: &str) -> f64 {
        self.config[key].as_f64().unwrap_or_else(|| panic!("{key}"))
    }

    fn count(&self, key: &str) -> usize {
        self.number(key) as usize
    }

    /// Whether the fault changes anything in this checkpoint.
    pub fn shows(&self, fault: Fault) -> bool {
        fault != Fault::MissingSubNorms || self.tensors.contains_key("model.layers.0.mlp.ffn_sub_norm.weight")
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        let tensor = &self.tensors[name];
        assert_eq!(tensor.dtype, "BF16", "{name}");
        let value = |pair: &[u8]| bf16::from_le_bytes([pair[0], pair[1]]).to_f64();
        tensor.bytes.chunks_exact(2).map(value).collect()
    }

    fn matrix(&self, name: &str) -> Matrix {
        let tensor = &self.tensors[name];
        let cols = tensor.shape[1];
        if tensor.dtype == "BF16" {
            // Online quantisation: by the mean magnitude.
            let masters = self.floats(name);
            let mean = masters.iter().map(|w| w.abs()).sum::<f64>() / masters.len() as f64;
            let values = masters.iter().map(|w| (w / mean).round_ties_even().clamp(-1.0, 1.0)).collect();
            return Matrix { cols, values, scale: mean, inverse: 1.0 / mean };
        }
        // Row r + i * rows / 4 lies at bits 2i of packed row r.
        let packed = &tensor.bytes;
        let trit = |at: usize| f64::from(packed[at % packed.len()] >> (2 * (at / packed.len())) & 3) - 1.0;
        let values = (0..4 * packed.len()).map(trit).collect();
        let stored = self.floats(&format!("{name}_scale"))[0];
        match self.config["quantization_config"]["linear_class"].as_str() {
            Some("autobitlinear") => Matrix { cols, values, scale: stored, inverse: 1.0 / stored },
            _ => Matrix { cols, values, scale: 1.0 / stored, inverse: stored },
        }
    }

    /// Logits after each token, `tokens x vocab`.
    pub fn logits(&self, tokens: &[u32], how: How) -> Vec<Vec<f64>> {
        let mut run = Run { model: self, how, stream: Stream(how.seed) };
        let hidden = self.count("hidden_size");
        let embedding = self.floats("model.embed_tokens.weight");
        let mut residual: Vec<Vec<f64>> =
            tokens.iter().map(|&token| embedding[token as usize * hidden..][..hidden].to_vec()).collect();
        for layer in 0..self.count("num_hidden_layers") {
            run.attend(layer, &mut residual);
            residual.iter_mut().for_each(|x| run.feed_forward(layer, x));
        }
        let head = match self.tensors.contains_key("lm_head.weight") {
            true => self.floats("lm_head.weight"),
            false => embedding,
        };
        let weight = self.floats("model.norm.weight");
        let logits = |x: &Vec<f64>| {
            let x = self.norm(x, &weight);
            head.chunks(hidden).map(|row| dot(row, &x)).collect()
        };
        residual.iter().map(logits).collect()
    }

    fn norm(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let rms = (dot(x, x) / x.len() as f64 + self.number("rms_norm_eps")).sqrt();
        x.iter().zip(weight).map(|(x, w)| x / rms * w).collect()
    }
}

/// One evaluation.
struct Run<'a> {
    model: &'a Checkpoint,
    how: How,
    stream: Stream,
}

impl Run<'_> {
    /// Adds the attention of a layer to the residual stream.
    fn attend(&mut self, layer: usize, residual: &mut [Vec<f64>]) {
        let model = self.model;
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let weight = model.floats(&name("input_layernorm"));
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in residual.iter().enumerate() {
            let x = self.quantise(&model.norm(x, &weight));
            let project = |part: &str| self.linear(&name(part), &x);
            q.push(self.rope(project("self_attn.q_proj"), position));
            k.push(self.rope(project("self_attn.k_proj"), position));
            v.push(project("self_attn.v_proj"));
        }
        for position in 0..residual.len() {
            let mixed = self.mix(&q[position], &k[..=position], &v[..=position]);
            let mixed = self.sub_norm(mixed, &name("self_attn.attn_sub_norm"));
            let mixed = self.quantise(&mixed);
            add(&mut residual[position], &self.linear(&name("self_attn.o_proj"), &mixed));
        }
    }

    /// The values of the positions seen, weighed by the softmax of their keys' products with the query, head by head.
    fn mix(&self, q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>]) -> Vec<f64> {
        let (heads, kv_heads) = (self.model.count("num_attention_heads"), self.model.count("num_key_value_heads"));
        let dim = q.len() / heads;
        let mut mixed = Vec::new();
        for (head, q) in q.chunks(dim).enumerate() {
            let of = |x: &[f64]| x[head / (heads / kv_heads) * dim..][..dim].to_vec();
            let scores: Vec<f64> = k.iter().map(|k| dot(q, &of(k)) / (dim as f64).sqrt()).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sum = vec![0.0; dim];
            for (weight, v) in weights.iter().zip(v) {
                sum.iter_mut().zip(of(v)).for_each(|(sum, v)| *sum += weight / total * v);
            }
            mixed.extend(sum);
        }
        mixed
    }

    fn feed_forward(&mut self, layer: usize, residual: &mut [f64]) {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        let x = self.model.norm(residual, &self.model.floats(&name("post_attention_layernorm")));
        let x = self.quantise(&x);
        let (gate, up) = (self.linear(&name("mlp.gate_proj"), &x), self.linear(&name("mlp.up_proj"), &x));
        let relu2 =
            (self.model.config["hidden_act"].as_str() == Some("relu2")) != (self.how.fault == Fault::OtherActivation);
        let act = |x: f64| if relu2 { x.max(0.0).powi(2) } else { x / (1.0 + (-x).exp()) };
        let inside = gate.iter().zip(&up).map(|(gate, up)| act(*gate) * up).collect();
        let inside = self.sub_norm(inside, &name("mlp.ffn_sub_norm"));
        let inside = self.quantise(&inside);
        add(residual, &self.linear(&name("mlp.down_proj"), &inside));
    }

    fn sub_norm(&self, x: Vec<f64>, name: &str) -> Vec<f64> {
        match self.model.tensors.contains_key(name) && self.how.fault != Fault::MissingSubNorms {
            true => self.model.norm(&x, &self.model.floats(name)),
            false => x,
        }
    }

    fn rope(&self, mut x: Vec<f64>, position: usize) -> Vec<f64> {
        let dim = self.model.count("hidden_size") / self.model.count("num_attention_heads");
        let theta = self.model.number("rope_theta");
        for head in x.chunks_mut(dim) {
            for i in 0..dim / 2 {
                let (a, b) = match self.how.fault {
                    Fault::OtherRope => (2 * i, 2 * i + 1),
                    _ => (i, i + dim / 2),
                };
                let (sin, cos) = (position as f64 * theta.powf(-2.0 * i as f64 / dim as f64)).sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
            }
        }
        x
    }

    fn quantise(&mut self, x: &[f64]) -> Vec<f64> {
        let largest = x.iter().fold(1e-5f64, |largest, x| largest.max(x.abs()));
        let steps = 127.0 / largest;
        let mut noise = || match self.how.noise {
            0.0 => 0.0,
            noise => f64::from(self.stream.unit()) * noise * largest,
        };
        let round = |x: f64| match self.how.fault {
            Fault::NoActivationQuantisation => x * steps,
            Fault::Truncation => (x * steps).trunc(),
            _ => (x * steps).round_ties_even().clamp(-128.0, 127.0),
        };
        x.iter().map(|x| round(x + noise()) / steps).collect()
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let matrix = &self.model.matrices[name];
        let scale = if self.how.fault == Fault::InverseScale { matrix.inverse } else { matrix.scale };
        matrix.values.chunks(matrix.cols).map(|row| dot(row, x) * scale).collect()
    }
}

/// A safetensors file: the length of a JSON header, the header, the data that it points into.
fn tensors(bytes: &[u8]) -> HashMap<String, Tensor> {
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: HashMap<String, Value> = serde_json::from_slice(header).unwrap();
    let entry = |(name, value): (String, Value)| {
        let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(value[key].clone()).unwrap() };
        let (dtype, shape, range) =
            (value["dtype"].as_str().unwrap().to_owned(), numbers("shape"), numbers("data_offsets"));
        (name, Tensor { dtype, shape, bytes: data[range[0]..range[1]].to_vec() })
    };
    header.into_iter().filter(|(name, _)| name != "__metadata__").map(entry).collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}
