//! `model inspect` of a Hugging Face folder.

use crate::data;
use crate::local::Source;
use anyhow::{Context as _, Result};
use engine::formats::HfFolder;
use engine::formats::safetensors::{Packing, TensorInfo};
use serde_json::{Value, json};

/// What is in a folder: architecture, how scales are read, files with their digests, tensors, tokenizer.
///
/// # Errors
/// Whatever is wrong with a file of it.
pub fn inspect(name: &str, source: &Source) -> Result<Value> {
    let Source::Folder(folder) = source else { anyhow::bail!("{name} is no folder") };
    let mut files: Vec<(String, String)> = Vec::new();
    for path in folder.files() {
        let name = path.file_name().context("a file without a name")?.to_string_lossy();
        files.push((name.into_owned(), data::sha256(path)?));
    }
    files.sort();
    let listed: Vec<Value> = files.iter().map(|(file, sha256)| json!({ "file": file, "sha256": sha256 })).collect();
    let tensors = folder.tensors().iter().map(|t| tensor(folder, t)).collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "model": name, "path": folder.path().display().to_string(), "sha256": data::sha256_of_all(&files), "files": listed,
        "architecture": folder.config().opt_strings("architectures")?.unwrap_or_default(),
        "scales": folder.convention().to_string(),
        "tokenizer": super::model::tokenizer(source.tokenizer()), "tensors": tensors,
    }))
}

/// A tensor's entry; of a ternary one also its scale (what its trits are multiplied by, whichever way the folder has it)
/// and the share of its weights that are zero.
fn tensor(folder: &HfFolder, tensor: &TensorInfo) -> Result<Value> {
    let mut entry = json!({
        "name": tensor.name(), "type": tensor.dtype().to_string(), "shape": tensor.shape(), "bytes": tensor.bytes().len(),
    });
    let weight = folder.weight_of(tensor);
    if weight.packing() == Packing::Float {
        return Ok(entry);
    }
    let trits = weight.trits()?;
    entry["packing"] = json!(weight.packing().to_string());
    entry["scale"] = json!(trits.scale());
    let (mut zeros, mut row) = (0, vec![0; weight.cols()]);
    for at in 0..weight.rows() {
        trits.row(at, &mut row)?;
        zeros += row.iter().filter(|&&trit| trit == 0).count();
    }
    let count = weight.rows() * weight.cols();
    entry["zero_share"] = if count == 0 { Value::Null } else { json!(zeros as f64 / count as f64) };
    Ok(entry)
}
