//! `model synth` and `model inspect`: make a model in memory, look into one.

use super::say;
use crate::answer;
use crate::cmd::talk::Talk;
use crate::data::{self, Named};
use crate::local;
use anyhow::{Result, bail};
use engine::formats::gguf::GgufFile;
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
        Args::Inspect { model, data, json } => inspect(model, data.as_deref(), *json),
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

fn inspect(name: &str, data: Option<&std::path::Path>, as_json: bool) -> Result<u8> {
    let object = match data::resolve(name, data)? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => json!({
            "model": name, "synthetic": shape, "linear_params": shape.linear_params(),
        }),
        Named::Spec(_, None) => bail!("model `{name}` has no file"),
        Named::Spec(_, Some(path)) | Named::Path(path) => {
            let file = GgufFile::open(&path)?;
            let tensors: Vec<_> = file
                .tensors()
                .iter()
                .map(|t| json!({"name": t.name(), "type": t.kind().name(), "dims": t.dims(), "bytes": t.bytes().len()}))
                .collect();
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
