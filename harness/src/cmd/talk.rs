//! What `generate` and `logits` share: which model, which engine, how it runs.

use crate::data::{self, Named};
use crate::local::{self, Opened};
use anyhow::{Context as _, Result, bail};
use engine::formats::gguf::GgufFile;
use engine::tokenizer::Tokenizer;
use std::path::PathBuf;
use suites::Catalogue;
use suites::cell::KvCache;
use suites::model::WeightFormat;

/// Options of every command that talks to a model.
#[derive(clap::Args, Clone)]
pub struct Talk {
    /// A GGUF file, or a name from models.toml
    #[arg(long)]
    pub model: String,
    /// Engine: `ternary` or `f16`
    #[arg(long, default_value = "f16")]
    pub engine: String,
    /// Force an instruction-set path: scalar, avx2 or avx512
    #[arg(long)]
    pub isa: Option<String>,
    /// Worker threads (default: every CPU)
    #[arg(long)]
    pub threads: Option<u32>,
    /// Element type of the KV cache
    #[arg(long, default_value = "f16", value_parser = parse_kv)]
    pub kv: KvCache,
    /// Folder with fetched models (default: data)
    #[arg(long)]
    pub data: Option<PathBuf>,
}

fn parse_kv(text: &str) -> Result<KvCache, String> {
    match text {
        "f16" => Ok(KvCache::F16),
        "f32" => Ok(KvCache::F32),
        _ => Err("expected f16 or f32".to_owned()),
    }
}

impl Talk {
    /// The linear-layer format of the named engine.
    ///
    /// # Errors
    /// An unknown engine, with the nearest name.
    pub fn format(&self) -> Result<WeightFormat> {
        Ok(Catalogue::embedded()?.engine(&self.engine)?.format)
    }

    /// Opens model, threads and kernels, and the tokenizer where the model has one. The file is opened once.
    ///
    /// # Errors
    /// Whatever is wrong with names, file or CPU.
    pub fn open(&self) -> Result<(Opened, Option<Tokenizer>)> {
        let format = self.format()?;
        let threads = self.threads.unwrap_or_else(crate::machine::cpus);
        if !(1..=4096).contains(&threads) {
            bail!("--threads: expected 1 to 4096, found {threads}");
        }
        let isa = self.isa.as_deref();
        let path = match data::resolve(&self.model, self.data.as_deref())? {
            Named::Spec(spec, None) => return Ok((local::open(&spec, None, format, isa, threads)?, None)),
            Named::Spec(_, Some(path)) | Named::Path(path) => path,
        };
        let kernels = local::kernels(isa)?;
        let file = GgufFile::open(&path)?;
        let tokenizer = Tokenizer::from_gguf(&file).with_context(|| path.display().to_string());
        let model = engine::model::load_gguf(&file, local::format(format))?;
        let pool = engine::threads::Pool::new(threads as usize, true)?;
        // Token ids alone need no tokenizer; a broken one is told to whoever asks for text.
        let tokenizer = match tokenizer {
            Ok(tokenizer) => Some(tokenizer),
            Err(error) => {
                eprintln!("no tokenizer: {error:#}");
                None
            }
        };
        Ok((Opened { model, pool, kernels }, tokenizer))
    }
}

/// Token ids written as `1,2,3`.
///
/// # Errors
/// Anything that is no number.
pub fn parse_tokens(text: &str) -> Result<Vec<u32>, String> {
    let one = |t: &str| t.trim().parse::<u32>().map_err(|_| format!("expected token ids such as 1,2,3, found `{t}`"));
    text.split(',').map(one).collect()
}
