//! Hugging Face folders to GGUF files, and back.

mod config;
mod rope;

use std::path::Path;

use serde_json::Value;

use super::describe::{architecture, config_metadata, linear_factor, refuse};
use super::encode::{self, Form, Item, Planner, Role};
use super::gguf::{gguf_items, write};
use super::rows::{Permuted, PermutedVector, Rows};
use super::shards::{Folder, Planned, Shards};
use super::synth::vector;
use super::{Options, Report};
use crate::error::{Error, Result};
use crate::formats::gguf::TensorType;
use crate::formats::safetensors::{Dtype, Packing as HfPacking, Trits, Weight, hf_names};
use crate::formats::{GgufFile, HfFolder};
use crate::model::{Config, RopeStyle, check_gguf, check_hf};
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

/// Queries and keys of `llama` (weights and biases) in the other order of RoPE's pairs than `have`.
fn turned<'a>(name: &str, rows: impl Rows + 'a, config: &Config, have: RopeStyle) -> Box<dyn Rows + 'a> {
    let (part, kind) = name.rsplit_once('.').unwrap_or((name, ""));
    let is_turned = architecture(config) == "llama" && (part.ends_with(".attn_q") || part.ends_with(".attn_k"));
    let (head_dim, to_halves) = (config.head_dim, have == RopeStyle::Interleaved);
    match (is_turned, kind) {
        (true, "bias") => Box::new(PermutedVector { rows, order: Permuted { rows: (), head_dim, to_halves } }),
        (true, _) => Box::new(Permuted { rows, head_dim, to_halves }),
        (false, _) => Box::new(rows),
    }
}

/// How to write a folder.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// What the tensors become: [`super::Target::Hf`] or a float type other than Q8_0.
    pub options: Options,
    /// Bytes of a file at most, unless one tensor has more.
    pub shard_bytes: u64,
}

/// Writes the model of a GGUF file as a Hugging Face folder: `config.json`, safetensors, and the tokenizer where
/// `tokenizer.json` can say it ([`Report::notes`] says if not).
///
/// # Errors
/// As [`hf_to_gguf`].
pub fn gguf_to_hf(file: &GgufFile, path: &Path, how: &FolderOptions) -> Result<Report> {
    let config = check_gguf(file)?;
    refuse(&config, architecture(&config))?;
    let described = config::describe(file, &config, &how.options)?;
    let mut items = gguf_items(file);
    items.retain(|item| item.name != ROPE_FACTORS);
    for item in &mut items {
        let rows = std::mem::replace(&mut item.rows, Box::new(Nothing));
        item.rows = turned(&item.name, rows, &config, RopeStyle::Interleaved);
    }
    items.sort_by_key(|item| order(&item.name));
    let folder = Folder::create(path)?;
    let mut report = tensors(&folder, &items, how)?;
    report.inexact.extend(described.inexact);
    folder.put("config.json", format!("{:#}\n", Value::Object(described.json)).as_bytes())?;
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
            let stored = if how.options.inverse { inverse(scale) } else { scale };
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

/// The number whose inverse is `scale`, where there is one: its neighbours may be when the nearest is not.
fn inverse(scale: f32) -> f32 {
    let nearest = 1.0 / scale;
    let near = [nearest, nearest.next_down(), nearest.next_up()];
    near.into_iter().find(|stored| 1.0 / stored == scale).unwrap_or(nearest)
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
