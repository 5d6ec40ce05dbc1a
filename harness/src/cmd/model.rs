//! `model`: make a synthetic model, look into one, convert and check files.

use super::say;
use crate::answer;
use crate::cmd::convert::{self, Becoming};
use crate::cmd::folder;
use crate::cmd::talk::{Reading, Talk};
use crate::cmd::verify;
use crate::data::{self, Named};
use crate::error::Error;
use crate::local;
use anyhow::{Result, bail};
use engine::formats::gguf::{GgufFile, TensorInfo, TensorType};
use engine::tokenizer::{Kind, Tokenizer};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use suites::model::ModelSpec;

/// Arguments of `model`.
#[derive(clap::Subcommand)]
pub enum Args {
    /// Make a synthetic model in memory: seconds, bytes, and the digest of its answer; or write it to a file
    Synth {
        /// Which model, which engine, how it runs
        #[command(flatten)]
        talk: Talk,
        /// Write a GGUF file instead
        #[arg(long)]
        out: Option<PathBuf>,
        /// A field of the model's shape for the file, such as hidden=256; may be given again
        #[arg(long, requires = "out")]
        set: Vec<String>,
        /// What the file's tensors become
        #[command(flatten)]
        becoming: Becoming,
    },
    /// Write a model in another packing
    Convert(convert::Args),
    /// Whether a model file is sound: every tensor, scale and the tokenizer (exit 65 if not)
    Verify(verify::Args),
    /// Architecture, tokenizer, shapes, types and digest of a model
    Inspect {
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
    },
}

/// Runs `model`.
///
/// # Errors
/// Whatever is wrong with the model.
pub fn run(args: &Args) -> Result<u8> {
    match args {
        Args::Synth { talk, out: None, .. } => synth(talk),
        Args::Synth { talk, out: Some(out), set, becoming } => synth_file(talk, out, set, becoming),
        Args::Convert(args) => convert::run(args),
        Args::Verify(args) => verify::run(args),
        Args::Inspect { model, reading, data, json } => inspect(model, reading, data.as_deref(), *json),
    }
}

fn synth(talk: &Talk) -> Result<u8> {
    talk.refuse_bounded()?;
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

fn synth_file(talk: &Talk, out: &Path, set: &[String], becoming: &Becoming) -> Result<u8> {
    match data::resolve(&talk.model, talk.data.as_deref())? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => convert::synth(&convert::with(&shape, set)?, out, becoming),
        _ => bail!(Error::Usage(format!("model `{}` is not synthetic: model convert writes it", talk.model))),
    }
}

fn inspect(name: &str, reading: &Reading, data: Option<&Path>, as_json: bool) -> Result<u8> {
    let object = match data::resolve(name, data)? {
        Named::Spec(ModelSpec::Synthetic(shape), _) => json!({
            "model": name, "synthetic": shape, "linear_params": shape.linear_params(),
        }),
        Named::Spec(_, None) => bail!("model `{name}` has no file"),
        Named::Spec(_, Some(path)) | Named::Path(path) if path.is_dir() => {
            folder::inspect(name, &reading.source(&path)?)?
        }
        Named::Spec(_, Some(path)) | Named::Path(path) => {
            let file = reading.open(&path)?;
            let tensors = file.tensors().iter().map(|t| tensor(&file, t)).collect::<Result<Vec<_>>>()?;
            let i2s = file.tensors().iter().any(|t| t.kind() == TensorType::I2S);
            json!({
                "model": name, "path": path.display().to_string(), "sha256": data::sha256(&path)?, "version": file.version(),
                "architecture": file.str("general.architecture")?, "i2_s_layout": i2s.then(|| file.i2s_layout().to_string()),
                "tokenizer": tokenizer(Tokenizer::from_gguf(&file).map_err(Into::into)), "tensors": tensors,
            })
        }
    };
    match as_json {
        true => say(object)?,
        false => say(format_args!("{object:#}"))?,
    }
    Ok(0)
}

/// A tokenizer's entry: its kind, and what it does about the ends of a text; or why there is none.
pub(super) fn tokenizer(found: Result<Tokenizer>) -> serde_json::Value {
    let tokenizer = match found {
        Ok(tokenizer) => tokenizer,
        Err(error) => return json!({ "kind": "none", "why": format!("{error:#}") }),
    };
    let pre = match tokenizer.kind() {
        Kind::ByteLevelBpe { pre } => pre.as_deref(),
        Kind::SentencePiece | Kind::Other(_) => None,
    };
    json!({
        "kind": tokenizer.kind().to_string(), "pre_tokenizer": pre, "vocabulary": tokenizer.vocabulary(),
        "bos": tokenizer.bos(), "eos": tokenizer.eos(), "eot": tokenizer.eot(), "add_bos": tokenizer.adds_bos(),
        "notes": tokenizer.notes(),
    })
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
