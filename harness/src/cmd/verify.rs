//! `model verify`: whether a model file is sound.

use super::say;
use super::talk::Reading;
use crate::data::{self, Named};
use crate::error::Error;
use anyhow::{Result, bail};
use engine::formats::HfFolder;
use engine::verify::{Finding, Level, Verdict, verify_gguf, verify_hf};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use suites::model::ModelSpec;

/// Arguments of `model verify`.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file, a Hugging Face folder, or a name from models.toml
    model: String,
    /// How to read what the file does not say
    #[command(flatten)]
    reading: Reading,
    /// Folder with fetched models (default: data)
    #[arg(long)]
    data: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Exit code for a file that is not sound.
const NOT_SOUND: u8 = 65;

/// Runs `model verify`: 0 for a sound file, 65 for another.
///
/// # Errors
/// Whatever keeps the file from being read at all.
pub fn run(args: &Args) -> Result<u8> {
    if Path::new(&args.model).is_dir() {
        return folder(args);
    }
    let (path, expected) = match data::resolve(&args.model, args.data.as_deref())? {
        Named::Spec(ModelSpec::Synthetic(_), _) | Named::Spec(_, None) => {
            bail!(Error::Usage(format!("model `{}` has no file", args.model)));
        }
        Named::Spec(ModelSpec::File(file), Some(path)) => (path, Some(file.sha256)),
        Named::Path(path) => (path, None),
    };
    let file = args.reading.open(&path)?;
    let mut verdict = verify_gguf(&file);
    let sha256 = data::sha256(&path)?;
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        let what = format!("expected sha256 {expected} (models.toml), found {sha256}");
        verdict.findings.push(Finding { level: Level::Bad, tensor: None, what });
    }
    let architecture = file.opt_str("general.architecture").ok().flatten().unwrap_or_default();
    finish(args, architecture, &verdict, &[(path, sha256)])
}

/// A Hugging Face folder.
fn folder(args: &Args) -> Result<u8> {
    let folder = HfFolder::open(&args.model)?;
    let verdict = verify_hf(&folder);
    let named = folder.config().opt_strings("architectures").ok().flatten().unwrap_or_default();
    let architecture = named.first().copied().unwrap_or_default().to_owned();
    let hash = |path: &Path| Ok((path.to_owned(), data::sha256(path)?));
    let files = folder.files().map(hash).collect::<Result<Vec<_>>>()?;
    finish(args, &architecture, &verdict, &files)
}

/// Prints the verdict; the exit code.
fn finish(args: &Args, architecture: &str, verdict: &Verdict, files: &[(PathBuf, String)]) -> Result<u8> {
    let findings: Vec<Value> = verdict.findings.iter().map(finding).collect();
    let files: Vec<Value> =
        files.iter().map(|(path, sha256)| json!({ "path": path.display().to_string(), "sha256": sha256 })).collect();
    let object = json!({
        "model": args.model, "files": files, "architecture": architecture, "tensors": verdict.tensors,
        "ternary_tensors": verdict.ternary.len(), "tokenizer": verdict.tokenizer, "sound": verdict.sound(),
        "zero_shares": shares(verdict), "findings": findings,
    });
    match args.json {
        true => say(object)?,
        false => tell(&object)?,
    }
    Ok(if verdict.sound() { 0 } else { NOT_SOUND })
}

fn finding(finding: &Finding) -> Value {
    let level = if finding.level == Level::Bad { "bad" } else { "suspect" };
    json!({ "level": level, "tensor": finding.tensor, "what": finding.what })
}

/// The share of zero weights in each block.
fn shares(verdict: &Verdict) -> Vec<Value> {
    verdict.zero_shares().into_iter().map(|(block, share)| json!({ "block": block, "zero_share": share })).collect()
}

/// The same for people: findings, then the verdict.
fn tell(object: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for share in object["zero_shares"].as_array().into_iter().flatten() {
        let zeros =
            share["zero_share"].as_f64().map_or("unknown".to_owned(), |zeros| format!("{:.1} %", 100.0 * zeros));
        say(format_args!("block {}: {zeros} zeros", share["block"]))?;
    }
    for finding in object["findings"].as_array().into_iter().flatten() {
        let place = finding["tensor"].as_str().map(|name| format!("{name}: ")).unwrap_or_default();
        say(format_args!("{}: {place}{}", text(&finding["level"]), text(&finding["what"])))?;
    }
    for file in object["files"].as_array().into_iter().flatten() {
        say(format_args!("sha256 {} {}", text(&file["sha256"]), text(&file["path"])))?;
    }
    let verdict = if object["sound"] == true { "sound" } else { "not sound" };
    let (tensors, ternary) = (&object["tensors"], &object["ternary_tensors"]);
    say(format_args!("{verdict}: {} ({tensors} tensors, {ternary} ternary)", text(&object["model"])))
}
