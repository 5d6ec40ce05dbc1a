//! `model synth` and `model inspect`: make a model in memory, look into one.

use super::say;
use crate::answer;
use crate::cmd::talk::Talk;
use crate::data::{self, Named};
use crate::local;
use anyhow::{Result, bail};
use engine::formats::gguf::{GgufFile, I2sLayout, TensorInfo};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use suites::model::ModelSpec;

/// Arguments of `model`.
#[derive(clap::Subcommand)]
pub enum Args {
    /// Make a synthetic model in memory: seconds, bytes, and the digest of its answer
    Synth {
        /// Which model, which engine, how it runs
        #[command(flatten)]
        talk: Talk,
    },
    /// Architecture, shapes, types and digest of a model
    Inspect {
        /// A GGUF file, or a name from models.toml
        model: String,
        /// How the file's I2_S tensors lie: x86 (blocks of 128), arm (blocks of 64) or rows4 (four rows a byte)
        #[arg(long, default_value = "x86")]
        layout: I2sLayout,
        /// Folder with fetched models (default: data)
        #[arg(long)]
        data: Option<PathBuf>,
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
    },
}

/// Runs `model`.
///
/// # Errors
/// Whatever is wrong with the model.
pub fn run(args: &Args) -> Result<u8> {
    match args {
        Args::Synth { talk } => synth(talk),
        Args::Inspect { model, layout, data, json } => inspect(model, *layout, data.as_deref(), *json),
    }
}

fn synth(talk: &Talk) -> Result<u8> {
    let start = Instant::now();
    let (opened, _) = talk.open()?;
    let seconds = start.elapsed().as_secs_f64();
    let mut session = opened.session(answer::BATCH_TOKENS, local::kv(talk.kv))?;
    let found = answer::probe(&mut session, 1, opened.model.config().vocab)?;
    let footprint = opened.model.footprint();
    let output = json!({
        "model": talk.model, "engine": talk.engine, "seconds": seconds,
        "weights_bytes": footprint.total(), "linear_bytes": footprint.linear_bytes,
        "read_per_token_bytes": footprint.read_per_token,
        "peak_rss_bytes": crate::probe::procfs::own_memory().peak,
        "digest": found.digest,
    });
    say(output)?;
    Ok(0)
}

fn inspect(name: &str, layout: I2sLayout, data: Option<&std::path::Path>, as_json: bool) -> Result<u8> {
    let object = match data::resolve(name, data)? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => json!({
            "model": name, "synthetic": shape, "linear_params": shape.linear_params(),
        }),
        Named::Spec(_, None) => bail!("model `{name}` has no file"),
        Named::Spec(_, Some(path)) | Named::Path(path) => {
            let file = GgufFile::open(&path)?.with_i2s_layout(layout);
            let tensors = file.tensors().iter().map(|t| tensor(&file, t)).collect::<Result<Vec<_>>>()?;
            json!({
                "model": name, "path": path.display().to_string(), "sha256": data::sha256(&path)?, "version": file.version(),
                "architecture": file.str("general.architecture")?, "tensors": tensors,
            })
        }
    };
    match as_json {
        true => say(object)?,
        false => say(format_args!("{object:#}"))?,
    }
    Ok(0)
}

/// A tensor's entry; of a ternary one also its scale and the share of its weights that are zero.
fn tensor(file: &GgufFile, tensor: &TensorInfo) -> Result<serde_json::Value> {
    let mut entry = json!({
        "name": tensor.name(), "type": tensor.kind().name(), "dims": tensor.dims(), "bytes": tensor.bytes().len(),
    });
    if tensor.kind().is_ternary() {
        entry["scale"] = json!(file.ternary_scale(tensor)?);
        let (mut zeros, mut trits) = (0, vec![0; tensor.cols()]);
        for row in 0..tensor.rows() {
            file.ternary_row(tensor, row, &mut trits)?;
            zeros += trits.iter().filter(|&&trit| trit == 0).count();
        }
        entry["zero_share"] = json!(zeros as f64 / (tensor.rows() * tensor.cols()) as f64);
    }
    Ok(entry)
}
