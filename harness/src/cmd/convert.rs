//! `model convert` and `model synth --out`: models into files of another packing.

use super::say;
use super::talk::Reading;
use crate::data::{self, Named};
use crate::error::Error;
use crate::local;
use anyhow::{Context as _, Result, bail};
use engine::convert::{self, Options, Report, Target};
use engine::formats::KernelConfig;
use engine::formats::gguf::{I2sLayout, TensorType};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use suites::model::{ModelSpec, Shape};

/// Arguments of `model convert`.
#[derive(clap::Args)]
pub struct Args {
    /// A GGUF file, or a name from models.toml
    source: String,
    /// The file to write
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
    /// What the linear layers become: i2_s, tq1_0, tq2_0, tl1, tl2, f32, f16, bf16 or q8_0
    #[arg(long, value_parser = parse_target, default_value = "i2_s")]
    to: Target,
    /// How I2_S tensors are written: x86, arm or rows4
    #[arg(long, default_value = "x86")]
    to_layout: I2sLayout,
    /// The kernel config by which TL1 or TL2 tensors are written (default: the one that the source is read by)
    #[arg(long)]
    to_kernel_config: Option<PathBuf>,
    /// What embedding and head become: keep, f32, f16, bf16 or q8_0
    #[arg(long, default_value = "keep", value_parser = parse_embedding)]
    embedding: Embedding,
    /// What linear layers become whose shape the target cannot have: f32, f16, bf16 or q8_0 (default: they are refused)
    #[arg(long, value_parser = parse_float)]
    fallback: Option<TensorType>,
    /// Quantise weights that are not ternary, by the mean of their magnitudes
    #[arg(long)]
    quantise: bool,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
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
    parse_float(text).map(|kind| Embedding(Some(kind))).map_err(|e| format!("{e}, or keep"))
}

fn parse_target(text: &str) -> Result<Target, String> {
    Ok(match text {
        // The layout is an option of its own.
        "i2_s" => Target::I2s(I2sLayout::default()),
        "tq1_0" => Target::Tq1_0,
        "tq2_0" => Target::Tq2_0,
        "tl1" => Target::Tl1,
        "tl2" => Target::Tl2,
        other => {
            let expected = |e| format!("{e}, or i2_s, tq1_0, tq2_0, tl1 or tl2");
            Target::Float(parse_float(other).map_err(expected)?)
        }
    })
}

impl Becoming {
    /// The engine's options; `kernels` are those of the source.
    fn options(&self, kernels: Option<KernelConfig>) -> Result<Options> {
        let target = match self.to {
            Target::I2s(_) => Target::I2s(self.to_layout),
            other => other,
        };
        let kernels = self.to_kernel_config.as_ref().map(KernelConfig::open).transpose()?.or(kernels);
        let (Embedding(embedding), fallback, quantise) = (self.embedding, self.fallback, self.quantise);
        Ok(Options { target, kernels, embedding, fallback, quantise })
    }

    /// Refuses to write over what is there.
    fn check(&self, destination: &Path) -> Result<()> {
        if destination.exists() && !self.force {
            let message = format!("{}: it is there already (--force writes over it)", destination.display());
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
    let path = match data::resolve(&args.source, args.data.as_deref())? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => return synth(&shape, &args.destination, &args.becoming),
        Named::Spec(_, None) => bail!("model `{}` has no file", args.source),
        Named::Spec(_, Some(path)) | Named::Path(path) => path,
    };
    let file = args.reading.open(&path)?;
    let options = args.becoming.options(file.kernels().cloned())?;
    let report = convert::gguf_to_gguf(&file, &args.destination, &options);
    let report = report.with_context(|| format!("converting {}", path.display()))?;
    tell(&args.source, &args.destination, &options, &report)
}

/// Writes a synthetic model.
///
/// # Errors
/// A shape that makes no sense or that the packing cannot have; what cannot be written.
pub fn synth(shape: &Shape, destination: &Path, becoming: &Becoming) -> Result<u8> {
    becoming.check(destination)?;
    let options = becoming.options(None)?;
    let report = convert::synthetic_to_gguf(&local::spec(shape), destination, &options)?;
    tell(&shape.name, destination, &options, &report)
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
fn tell(source: &str, destination: &Path, options: &Options, report: &Report) -> Result<u8> {
    for loss in report.inexact.iter().take(SHOWN) {
        eprintln!("not bit-exact: {loss}");
    }
    if report.inexact.len() > SHOWN {
        eprintln!("not bit-exact: {} tensors more", report.inexact.len() - SHOWN);
    }
    let layout = match options.target {
        Target::I2s(layout) => Some(layout.to_string()),
        _ => None,
    };
    say(json!({
        "source": source, "destination": destination.display().to_string(),
        "to": options.target.tensor_type().name(), "i2_s_layout": layout,
        "tensors": report.tensors, "converted": report.converted,
        "exact": report.inexact.is_empty(), "inexact": report.inexact,
        "bytes": std::fs::metadata(destination)?.len(), "sha256": data::sha256(destination)?,
    }))?;
    Ok(0)
}
