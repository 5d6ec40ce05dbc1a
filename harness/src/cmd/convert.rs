//! `model convert` and `model synth --out`: models into files of another packing.

use super::say;
use super::talk::Reading;
use crate::data::{self, Named};
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::convert::{self, FolderOptions, Options, Report, Target};
use engine::formats::gguf::{I2sLayout, TensorType};
use engine::formats::{HfFolder, KernelConfig};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use suites::model::{ModelSpec, Shape};

/// Arguments of `model convert`.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file, a Hugging Face folder, or a name from models.toml
    source: String,
    /// The file to write, or the folder for hf-*
    destination: PathBuf,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    becoming: Becoming,
    /// Folder with fetched models (default: data)
    #[arg(long)]
    data: Option<PathBuf>,
}

/// What a file's tensors become.
#[derive(clap::Args, Clone, Debug)]
pub struct Becoming {
    /// What the linear layers become: i2_s, tq1_0, tq2_0, tl1, tl2, f32, f16, bf16 or q8_0 in a GGUF file; hf-packed, hf-f32,
    /// hf-f16 or hf-bf16 in a Hugging Face folder
    #[arg(long, value_parser = parse_target, default_value = "i2_s")]
    to: To,
    /// How I2_S tensors are written: x86, arm or rows4
    #[arg(long, default_value = "x86")]
    to_layout: I2sLayout,
    /// The kernel config by which TL1 or TL2 tensors are written (default: the one that the source is read by)
    #[arg(long)]
    to_kernel_config: Option<PathBuf>,
    /// What embedding and head become: keep, f32, f16, bf16, q8_0 or q6_k
    #[arg(long, default_value = "keep", value_parser = parse_embedding)]
    embedding: Embedding,
    /// What linear layers become whose shape the target cannot have: f32, f16, bf16 or q8_0 (default: they are refused)
    #[arg(long, value_parser = parse_float)]
    fallback: Option<TensorType>,
    /// Quantise weights that are not ternary, by the mean of their magnitudes
    #[arg(long)]
    quantise: bool,
    /// What hf-packed writes as weight_scale: the scale (multiply: autobitlinear) or its inverse (inverse: bitlinear)
    #[arg(long, default_value = "multiply", value_parser = parse_convention)]
    scale_convention: Scale,
    /// Bytes of a safetensors file at most, such as 500MB
    #[arg(long, default_value = "5GB", value_parser = parse_bytes)]
    shard_size: u64,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// `--to`: the kind of file, and what is in it.
#[derive(Clone, Copy, Debug)]
enum To {
    Gguf(Target),
    Folder(Target),
}

/// `--scale-convention`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scale {
    Multiply,
    Inverse,
}

fn parse_convention(text: &str) -> Result<Scale, String> {
    match text {
        "multiply" => Ok(Scale::Multiply),
        "inverse" => Ok(Scale::Inverse),
        _ => Err("expected multiply or inverse".to_owned()),
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|&bytes| bytes > 0);
    bytes.ok_or_else(|| "expected bytes, such as 500MB or 5GB".to_owned())
}

/// `--embedding`: a type, or none to keep what is there.
#[derive(Clone, Copy, Debug)]
struct Embedding(Option<TensorType>);

fn parse_float(text: &str) -> Result<TensorType, String> {
    match text {
        "f32" => Ok(TensorType::F32),
        "f16" => Ok(TensorType::F16),
        "bf16" => Ok(TensorType::BF16),
        "q8_0" => Ok(TensorType::Q8_0),
        _ => Err("expected f32, f16, bf16 or q8_0".to_owned()),
    }
}

fn parse_embedding(text: &str) -> Result<Embedding, String> {
    if text == "keep" {
        return Ok(Embedding(None));
    }
    if text == "q6_k" {
        return Ok(Embedding(Some(TensorType::Q6K)));
    }
    parse_float(text)
        .map(|kind| Embedding(Some(kind)))
        .map_err(|_| "expected keep, f32, f16, bf16, q8_0 or q6_k".to_owned())
}

fn parse_target(text: &str) -> Result<To, String> {
    const KNOWN: &str =
        "expected i2_s, tq1_0, tq2_0, tl1, tl2, f32, f16, bf16, q8_0, hf-packed, hf-f32, hf-f16 or hf-bf16";
    if let Some(kind) = text.strip_prefix("hf-") {
        let target = match kind {
            "packed" => Target::Hf,
            "q8_0" => return Err(KNOWN.to_owned()),
            other => Target::Float(parse_float(other).map_err(|_| KNOWN)?),
        };
        return Ok(To::Folder(target));
    }
    Ok(To::Gguf(match text {
        // The layout is an option of its own.
        "i2_s" => Target::I2s(I2sLayout::default()),
        "tq1_0" => Target::Tq1_0,
        "tq2_0" => Target::Tq2_0,
        "tl1" => Target::Tl1,
        "tl2" => Target::Tl2,
        other => Target::Float(parse_float(other).map_err(|_| KNOWN)?),
    }))
}

impl Becoming {
    /// The engine's options; `kernels` are those of the source.
    fn options(&self, kernels: Option<KernelConfig>) -> Result<Options> {
        let target = match self.to {
            To::Gguf(Target::I2s(_)) => Target::I2s(self.to_layout),
            To::Gguf(other) | To::Folder(other) => other,
        };
        let kernels = self.to_kernel_config.as_ref().map(KernelConfig::open).transpose()?.or(kernels);
        let (Embedding(embedding), fallback, quantise) = (self.embedding, self.fallback, self.quantise);
        let inverse = self.scale_convention == Scale::Inverse;
        Ok(Options { target, kernels, embedding, fallback, quantise, inverse })
    }

    /// Refuses to write over what is there.
    fn check(&self, destination: &Path) -> Result<()> {
        if destination.exists() && (!self.force || destination.is_dir()) {
            let message = format!("{}: it is there already (--force writes over a file)", destination.display());
            bail!(Error::Usage(message));
        }
        Ok(())
    }
}

/// Runs `model convert`.
///
/// # Errors
/// Whatever is wrong with the source or cannot be written as asked.
pub fn run(args: &Args) -> Result<u8> {
    args.becoming.check(&args.destination)?;
    if Path::new(&args.source).is_dir() {
        return from_folder(args);
    }
    let path = match data::resolve(&args.source, args.data.as_deref())? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => return synth(&shape, &args.destination, &args.becoming),
        Named::Spec(_, None) => bail!("model `{}` has no file", args.source),
        Named::Spec(_, Some(path)) | Named::Path(path) => path,
    };
    let becoming = &args.becoming;
    let context = || format!("converting {}", path.display());
    let file = args.reading.open(&path)?;
    let options = becoming.options(file.kernels().cloned())?;
    let report = match becoming.to {
        To::Gguf(_) => convert::gguf_to_gguf(&file, &args.destination, &options),
        To::Folder(_) => {
            let how = FolderOptions { options, shard_bytes: becoming.shard_size };
            convert::gguf_to_hf(&file, &args.destination, &how)
        }
    };
    let report = report.with_context(context)?;
    tell(&args.source, &args.destination, becoming, &report)
}

/// Converts a Hugging Face folder.
fn from_folder(args: &Args) -> Result<u8> {
    let becoming = &args.becoming;
    if let To::Folder(_) = becoming.to {
        bail!(Error::Usage("a folder is converted to a GGUF file: --to without hf-".to_owned()));
    }
    let options = becoming.options(None)?;
    let folder = HfFolder::open(&args.source)?;
    let report = convert::hf_to_gguf(&folder, &args.destination, &options);
    let report = report.with_context(|| format!("converting {}", args.source))?;
    tell(&args.source, &args.destination, becoming, &report)
}

/// Writes a synthetic model.
///
/// # Errors
/// A shape that makes no sense or that the packing cannot have; what cannot be written.
pub fn synth(shape: &Shape, destination: &Path, becoming: &Becoming) -> Result<u8> {
    becoming.check(destination)?;
    if let To::Folder(_) = becoming.to {
        bail!(Error::Usage("a synthetic model is written as a GGUF file: --to without hf-".to_owned()));
    }
    let options = becoming.options(None)?;
    let report = convert::synthetic_to_gguf(&local::spec(shape), destination, &options)?;
    tell(&shape.name, destination, becoming, &report)
}

/// A shape with some of its fields set anew, as in `hidden=256`.
///
/// # Errors
/// A field that a shape does not have, a value that it cannot take.
pub fn with(shape: &Shape, fields: &[String]) -> Result<Shape> {
    let mut object = serde_json::to_value(shape)?;
    for field in fields {
        let Some((key, text)) = field.split_once('=') else {
            bail!(Error::Usage(format!("--set: expected field=value, found `{field}`")));
        };
        let value = serde_json::from_str::<Value>(text).unwrap_or_else(|_| json!(text));
        match object.get_mut(key) {
            Some(old) => *old = value,
            // Left out where it is not given.
            None if key == "gate_zeros" => object[key] = value,
            None => {
                let known = object.as_object().into_iter().flat_map(|map| map.keys()).cloned();
                let known = known.collect::<Vec<_>>().join(", ");
                bail!(Error::Usage(format!("--set: expected one of {known}, found `{key}`")));
            }
        }
    }
    serde_json::from_value(object).map_err(|e| Error::Usage(format!("--set: {e}")).into())
}

/// Losses that are told one by one on stderr.
const SHOWN: usize = 5;

/// Prints the result: one JSON object, and on stderr what was lost.
fn tell(source: &str, destination: &Path, becoming: &Becoming, report: &Report) -> Result<u8> {
    for loss in report.inexact.iter().take(SHOWN) {
        eprintln!("not bit-exact: {loss}");
    }
    if report.inexact.len() > SHOWN {
        eprintln!("not bit-exact: {} tensors more", report.inexact.len() - SHOWN);
    }
    report.notes.iter().for_each(|note| eprintln!("{note}"));
    let to = match becoming.to {
        To::Gguf(target) | To::Folder(target) => target.tensor_type().map_or("hf-packed", TensorType::name),
    };
    let layout = matches!(becoming.to, To::Gguf(Target::I2s(_))).then(|| becoming.to_layout.to_string());
    let files = files(destination)?;
    say(json!({
        "source": source, "destination": destination.display().to_string(), "to": to, "i2_s_layout": layout,
        "tensors": report.tensors, "converted": report.converted,
        "exact": report.inexact.is_empty(), "inexact": report.inexact, "notes": report.notes, "files": files,
    }))?;
    Ok(0)
}

/// Name, bytes and hash of what was written.
fn files(destination: &Path) -> Result<Vec<Value>> {
    let mut paths = vec![destination.to_owned()];
    if destination.is_dir() {
        paths = std::fs::read_dir(destination)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        paths.sort();
    }
    let file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(json!({ "name": name, "bytes": std::fs::metadata(path)?.len(), "sha256": data::sha256(path)? }))
    };
    paths.iter().map(file).collect()
}
