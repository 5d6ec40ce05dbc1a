//! Hugging Face folders to GGUF files, and back.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::describe::{architecture, config_metadata, linear_factor, refuse};
use super::encode::{self, Form, Item, Planner, Role};
use super::gguf::{gguf_items, write};
use super::rows::{Permuted, Rows};
use super::shards::{Folder, Planned, Shards};
use super::synth::vector;
use super::{Options, Report, Target};
use crate::error::{Error, Result};
use crate::formats::gguf::TensorType;
use crate::formats::safetensors::{Dtype, Packing as HfPacking, Trits, Weight, hf_names};
use crate::formats::{GgufFile, HfFolder};
use crate::model::{Activation, Config, RopeStyle, check_gguf, check_hf};
use crate::tokenizer::carry;

/// The tensor of GGUF files that RoPE's frequencies are divided by.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// A weight of a folder, its trits where it is ternary.
struct HfRows<'a> {
    weight: &'a Weight<'a>,
    trits: Option<Trits<'a>>,
    role: Role,
}

impl Rows for HfRows<'_> {
    fn shape(&self) -> (usize, usize) {
        (self.weight.rows(), self.weight.cols())
    }

    fn scale(&self) -> Result<Option<f32>> {
        Ok(self.trits.as_ref().map(Trits::scale))
    }

    fn trits(&self, row: usize, out: &mut [i8]) -> Result<()> {
        match &self.trits {
            Some(trits) => Ok(trits.row(row, out)?),
            None => Ok(self.weight.trits()?.row(row, out)?),
        }
    }

    fn values(&self, row: usize, out: &mut [f32]) -> Result<()> {
        match &self.trits {
            Some(trits) => Ok(trits.row_to_f32(row, out)?),
            None => Ok(self.weight.row_to_f32(row, out)?),
        }
    }

    fn stored(&self) -> Option<(TensorType, &[u8])> {
        let kind = match self.weight.tensor().dtype() {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::BF16,
            _ => return None,
        };
        // llama.cpp has its norms in F32.
        let kept = self.trits.is_none() && (self.role != Role::Other || kind == TensorType::F32);
        kept.then(|| (kind, self.weight.data()))
    }

    fn done(&self) {
        self.weight.release();
    }
}

/// Writes the model of a folder as a GGUF file, with its tokenizer if GGUF has a name for it ([`Report::notes`] says if
/// not).
///
/// # Errors
/// Whatever is wrong with the folder; a tensor that cannot become what is asked; the operating system's answer. Nothing
/// is left at `path` then.
pub fn hf_to_gguf(folder: &HfFolder, path: &Path, options: &Options) -> Result<Report> {
    let config = check_hf(folder)?;
    no_bias_of_llama(&config)?;
    let mut metadata = config_metadata(&config)?;
    let mut notes = Vec::new();
    if let Err(error) = carry::folder_to_metadata(folder.path(), config.vocab, &mut metadata) {
        notes.push(format!("no tokenizer is written: {error}"));
        metadata.set("tokenizer.ggml.model", "none");
    }
    let weights = hf_weights(folder, config.tied);
    let mut items = Vec::with_capacity(weights.len());
    for (name, weight) in &weights {
        let rows = hf_rows(name, weight)?;
        let (dims, role) = (weight.dims().to_vec(), rows.role);
        items.push(Item { name: name.clone(), dims, role, rows: turned(name, rows, &config, RopeStyle::Neox) });
    }
    if !config.rope_factors.is_empty() && linear_factor(&config).is_none() {
        items.push(vector(ROPE_FACTORS, &config.rope_factors));
    }
    // Blocks after one another, as llama.cpp's own files have them.
    items.sort_by_key(|item| order(&item.name));
    let report = write(path, metadata, &items, options)?;
    Ok(Report { notes, ..report })
}

/// The weights of a folder by their GGUF names, a head that is the embedding left out.
fn hf_weights(folder: &HfFolder, tied: bool) -> Vec<(String, Weight<'_>)> {
    let names = folder.weight_names().into_iter().filter(|name| !(tied && name == "output.weight"));
    names.filter_map(|name| folder.weight(&name).map(|weight| (name, weight))).collect()
}

/// The rows of a weight.
fn hf_rows<'a>(name: &str, weight: &'a Weight<'a>) -> Result<HfRows<'a>> {
    let trits = (weight.packing() != HfPacking::Float).then(|| weight.trits()).transpose()?;
    // Master weights were read for their mean.
    weight.release();
    Ok(HfRows { weight, trits, role: Role::of(name) })
}

/// Gives every tensor of a folder, or what is wrong with it, to `each`, in the folder's own order of rows.
pub(crate) fn each_of_folder(folder: &HfFolder, mut each: impl FnMut(&str, Result<Item<'_>>)) {
    for (name, weight) in &hf_weights(folder, false) {
        let (dims, role) = (weight.dims().to_vec(), Role::of(name));
        let item = hf_rows(name, weight).map(|rows| Item { name: name.clone(), dims, role, rows: Box::new(rows) });
        each(name, item);
    }
}

/// Outer tensors first, then block by block.
fn order(name: &str) -> (usize, String) {
    let block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')?.0.parse::<usize>().ok());
    (block.map_or(0, |block| block + 1), name.to_owned())
}

/// Queries and keys of `llama` in the other order of RoPE's pairs than `have`.
fn turned<'a>(name: &str, rows: impl Rows + 'a, config: &Config, have: RopeStyle) -> Box<dyn Rows + 'a> {
    let part = name.rsplit_once('.').map_or(name, |(module, _)| module);
    let is_turned = architecture(config) == "llama" && (part.ends_with(".attn_q") || part.ends_with(".attn_k"));
    match is_turned {
        true => Box::new(Permuted { rows, head_dim: config.head_dim, to_halves: have == RopeStyle::Interleaved }),
        false => Box::new(rows),
    }
}

/// The biases of `llama` would need the other order of RoPE's pairs, which is not done here.
fn no_bias_of_llama(config: &Config) -> Result<()> {
    if !(architecture(config) == "llama" && (config.attention_bias || config.output_bias)) {
        return Ok(());
    }
    let expected = "none, to convert a llama model from or to a folder".to_owned();
    Err(Error::Config { field: "attention_bias", expected, found: "biases".to_owned() })
}

/// How to write a folder.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// What the tensors become: [`Target::Hf`] or a float type other than Q8_0.
    pub options: Options,
    /// Bytes of a file at most, unless one tensor has more.
    pub shard_bytes: u64,
}

/// Writes the model of a GGUF file of LLaMA or BitNet as a Hugging Face folder: `config.json`, safetensors, and the
/// tokenizer where it is a byte-level BPE one ([`Report::notes`] says if not).
///
/// # Errors
/// As [`hf_to_gguf`].
pub fn gguf_to_hf(file: &GgufFile, path: &Path, how: &FolderOptions) -> Result<Report> {
    let config = check_gguf(file)?;
    refuse(&config, architecture(&config))?;
    no_bias_of_llama(&config)?;
    if let Some(window) = config.sliding_window {
        let expected = "none, to convert to a folder".to_owned();
        return Err(Error::Config { field: "sliding_window", expected, found: window.to_string() });
    }
    if !config.rope_factors.is_empty() {
        let expected = "none (config.json has the rule they were made by, which the file does not)".to_owned();
        let found = format!("{}", config.rope_factors.len());
        return Err(Error::Config { field: "rope_factors", expected, found });
    }
    let mut items = gguf_items(file);
    items.retain(|item| item.name != ROPE_FACTORS);
    for item in &mut items {
        let rows = std::mem::replace(&mut item.rows, Box::new(Nothing));
        item.rows = turned(&item.name, rows, &config, RopeStyle::Interleaved);
    }
    items.sort_by_key(|item| order(&item.name));
    let folder = Folder::create(path)?;
    let mut report = tensors(&folder, &items, how)?;
    folder.put("config.json", format!("{:#}\n", config_json(file, &config, &how.options)).as_bytes())?;
    match carry::gguf_to_files(file) {
        Ok(files) => files.iter().try_for_each(|file| folder.put(file.name, file.text.as_bytes()))?,
        Err(error) => report.notes.push(format!("no tokenizer is written: {error}")),
    }
    folder.finish()?;
    Ok(report)
}

/// Writes the safetensors files.
fn tensors(folder: &Folder, items: &[Item<'_>], how: &FolderOptions) -> Result<Report> {
    let planner = Planner { options: &how.options };
    let forms = items.iter().map(|item| wide(planner.form(item)?, item)).collect::<Result<Vec<Form>>>()?;
    let mut planned = Vec::new();
    for (item, form) in items.iter().zip(&forms) {
        planned.extend(plan(item, *form)?);
    }
    let mut report = Report::default();
    let mut shards = Shards::create(folder, &planned, how.shard_bytes)?;
    for (item, form) in items.iter().zip(forms) {
        encode::encode(item, form, &mut |bytes| Ok(shards.write(bytes)?), &mut report)?;
        if let Form::Ternary { scale, .. } = form {
            let stored = if how.options.inverse { 1.0 / scale } else { scale };
            if how.options.inverse && 1.0 / stored != scale {
                report.inexact.push(format!("{}: the inverse of scale {scale} is rounded to {stored}", item.name));
            }
            shards.write(&stored.to_le_bytes())?;
        }
        item.rows.done();
    }
    shards.finish()?;
    Ok(report)
}

/// A form that safetensors have: what is quantised otherwise becomes F16.
fn wide(form: Form, item: &Item<'_>) -> Result<Form> {
    Ok(match form {
        Form::Float(kind) | Form::Stored(kind) if dtype(kind).is_some() => form,
        Form::Float(TensorType::Q8_0) if item.role == Role::Linear => {
            let expected = "a type that safetensors have (f32, f16 or bf16)".to_owned();
            return Err(Error::Tensor { name: item.name.clone(), expected, found: "Q8_0".to_owned() });
        }
        Form::Float(_) | Form::Stored(_) => Form::Float(TensorType::F16),
        Form::Ternary { .. } => form,
    })
}

fn dtype(kind: TensorType) -> Option<&'static str> {
    match kind {
        TensorType::F32 => Some("F32"),
        TensorType::F16 => Some("F16"),
        TensorType::BF16 => Some("BF16"),
        _ => None,
    }
}

/// The table entries of a tensor, and of the scale that goes with it.
fn plan(item: &Item<'_>, form: Form) -> Result<Vec<Planned>> {
    let Some(name) = hf_names(&item.name).into_iter().next() else {
        let expected = "a tensor that Hugging Face's LLaMA and BitNet models have".to_owned();
        return Err(Error::Tensor { name: item.name.clone(), expected, found: "another".to_owned() });
    };
    let mut shape: Vec<u64> = item.dims.iter().rev().copied().collect();
    let values: u64 = shape.iter().product();
    let one = |name, dtype, shape, bytes| Planned { name, dtype, shape, bytes };
    Ok(match form {
        Form::Ternary { .. } => {
            shape[0] /= 4;
            let scale = one(format!("{name}_scale"), "F32", vec![1], 4);
            vec![one(name, "U8", shape, values / 4), scale]
        }
        Form::Float(kind) | Form::Stored(kind) => {
            vec![one(name, dtype(kind).unwrap_or("F32"), shape, values * kind.block_bytes())]
        }
    })
}

/// `config.json`.
fn config_json(file: &GgufFile, config: &Config, options: &Options) -> Value {
    let (class, model_type) = match architecture(config) {
        "qwen2" => ("Qwen2ForCausalLM", "qwen2"),
        "qwen3" => ("Qwen3ForCausalLM", "qwen3"),
        "llama" => ("LlamaForCausalLM", "llama"),
        _ => ("BitNetForCausalLM", "bitnet"),
    };
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    set("architectures", json!([class]));
    set("model_type", json!(model_type));
    set("hidden_size", json!(config.hidden));
    set("intermediate_size", json!(config.ffn));
    set("num_hidden_layers", json!(config.layers));
    set("num_attention_heads", json!(config.heads));
    set("num_key_value_heads", json!(config.kv_heads));
    set("head_dim", json!(config.head_dim));
    set("vocab_size", json!(config.vocab));
    set("max_position_embeddings", json!(config.context));
    // The shortest decimal that is this f32, not the f64 it widens to.
    set("rms_norm_eps", config.norm_eps.to_string().parse().map_or(json!(config.norm_eps), |eps: f64| json!(eps)));
    set("rope_theta", json!(config.rope_theta));
    set("hidden_act", json!(if config.activation == Activation::Relu2 { "relu2" } else { "silu" }));
    set("tie_word_embeddings", json!(config.tied));
    set("attention_bias", json!(false));
    for key in ["bos", "eos"] {
        if let Ok(Some(id)) = file.opt_u32(&format!("tokenizer.ggml.{key}_token_id")) {
            set(&format!("{key}_token_id"), json!(id));
        }
    }
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
    Value::Object(object)
}

/// No rows, while a tensor's are wrapped.
struct Nothing;

impl Rows for Nothing {
    fn shape(&self) -> (usize, usize) {
        (0, 0)
    }

    fn scale(&self) -> Result<Option<f32>> {
        Ok(None)
    }

    fn trits(&self, _: usize, _: &mut [i8]) -> Result<()> {
        Ok(())
    }

    fn values(&self, _: usize, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}
