//! What `generate` and `logits` share: which model, which engine, how it runs.

use crate::data::{self, Named};
use crate::error::Error;
use crate::local::{self, Opened, Source};
use anyhow::{Result, bail};
use engine::formats::KernelConfig;
use engine::formats::gguf::{GgufFile, I2sLayout};
use engine::model::{HeadWeights, Loading};
use engine::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;
use suites::Catalogue;
use suites::cell::KvCache;
use suites::model::{HeadMode, HeadType, ModelSpec, WeightFormat};

/// What a GGUF file may leave open.
#[derive(clap::Args, Clone, Debug)]
pub struct Reading {
    /// How a file's I2_S tensors lie: x86 (blocks of 128), arm (blocks of 64), rows4 (four rows a byte), or auto (as the
    /// file says, else x86 where the shapes admit it)
    #[arg(long, default_value = "auto")]
    pub layout: Layout,
    /// The kernel config (bitnet.cpp's include/kernel_config.ini) by which a file's TL1 or TL2 tensors are cut
    #[arg(long)]
    pub kernel_config: Option<PathBuf>,
}

/// `--layout`: a layout, or none of one's own.
#[derive(Clone, Copy, Debug)]
pub struct Layout(pub Option<I2sLayout>);

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self(None)),
            other => other.parse().map(|layout| Self(Some(layout))).map_err(|e: String| format!("{e}, or auto")),
        }
    }
}

impl Reading {
    /// Opens a GGUF file.
    ///
    /// # Errors
    /// Whatever is wrong with the file or the kernel config.
    pub fn open(&self, path: &Path) -> Result<GgufFile> {
        let mut file = GgufFile::open(path)?;
        if let Layout(Some(layout)) = self.layout {
            file = file.with_i2s_layout(layout);
        }
        if let Some(kernels) = &self.kernel_config {
            file = file.with_kernels(KernelConfig::open(kernels)?);
        }
        Ok(file)
    }

    /// Opens a GGUF file or a Hugging Face folder, which leaves nothing open.
    ///
    /// # Errors
    /// As [`Reading::open`], or an option that a folder has no use for.
    pub fn source(&self, path: &Path) -> Result<Source> {
        if !path.is_dir() {
            return Ok(Source::Gguf(self.open(path)?));
        }
        if self.layout.0.is_some() || self.kernel_config.is_some() {
            bail!(Error::Usage(format!("{}: --layout and --kernel-config are for GGUF files", path.display())));
        }
        Source::open(path)
    }
}

/// Options of every command that talks to a model.
#[derive(clap::Args, Clone)]
pub struct Talk {
    /// A GGUF file, a Hugging Face folder, or a name from models.toml
    #[arg(long)]
    pub model: String,
    /// Engine: `ternary`, `ternary-1.6` (five weights a byte), `ternary-sparse` (reads less where ReLU² gates are 0), `f16`, `bf16` or `reference` (scalar f32, activations quantised as the model defines it)
    #[arg(long, default_value = "f16")]
    pub engine: String,
    /// Force an instruction-set path: scalar, avx2, avxvnni, avx512 or amx (default: the best there is; scalar for the reference)
    #[arg(long)]
    pub isa: Option<String>,
    /// Worker threads (default: every CPU)
    #[arg(long)]
    pub threads: Option<u32>,
    /// Element type of the KV cache: f16, f32 or int8
    #[arg(long, default_value = "f16", value_parser = parse_kv)]
    pub kv: KvCache,
    /// The output head (and the embedding): file (a ternary engine keeps a file's Q8_0 or Q6_K; all else becomes f16 there,
    /// and in the other engines what all weights become), f16 (widened whatever the file has), or, in `generate` of one
    /// prompt, bounded (greedy decoding by a 4-bit copy of the f16 head with a proven bound, which leaves few of its rows to
    /// compute: the f16 head's tokens). Default: as the engine does, else file
    #[arg(long, value_enum)]
    pub head: Option<Head>,
    /// How to read what a file does not say
    #[command(flatten)]
    pub reading: Reading,
    /// Keep the packed weights in a file beside the model's (MODEL.tritmark-FORMAT), and load them from there next time
    #[arg(long)]
    pub cache: bool,
    /// Folder with fetched models (default: data)
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// `--head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Head {
    /// As the file has it, where the engine can hold it so.
    File,
    /// f16.
    F16,
    /// f16, of which a 4-bit copy leaves few rows to compute.
    Bounded,
}

fn parse_kv(text: &str) -> Result<KvCache, String> {
    let known = [KvCache::F16, KvCache::F32, KvCache::Int8];
    known.into_iter().find(|kv| kv.name() == text).ok_or_else(|| "expected f16, f32 or int8".to_owned())
}

impl Talk {
    /// The linear-layer format of the named engine.
    ///
    /// # Errors
    /// An unknown engine, with the nearest name.
    pub fn format(&self) -> Result<WeightFormat> {
        Ok(Catalogue::embedded()?.engine(&self.engine)?.format)
    }

    /// The head that was asked for, else the named engine's.
    ///
    /// # Errors
    /// As [`Talk::format`].
    pub fn head(&self) -> Result<Head> {
        let engine = || Ok::<_, anyhow::Error>(Catalogue::embedded()?.engine(&self.engine)?.head);
        Ok(match self.head {
            Some(head) => head,
            None if engine()? == HeadMode::Bounded => Head::Bounded,
            None => Head::File,
        })
    }

    /// What the named engine makes of a file's weights.
    ///
    /// # Errors
    /// As [`Talk::format`], and an engine that holds no f16 where that was asked for.
    fn loading(&self) -> Result<Loading> {
        let (format, head) = (self.format()?, self.head()?);
        if self.head == Some(Head::F16) && matches!(format, WeightFormat::Bf16 | WeightFormat::Reference) {
            let engine = &self.engine;
            bail!(Error::Usage(format!("--head f16: expected a ternary engine or f16, found {engine}")));
        }
        let head = if head == Head::File { HeadWeights::File } else { HeadWeights::F16 };
        Ok(Loading { format: local::format(format), head })
    }

    /// Refuses a head that only [`super::generate`] of one prompt has. (An engine that has it otherwise gives all logits by
    /// the f16 head here.)
    ///
    /// # Errors
    /// `--head bounded`.
    pub fn refuse_bounded(&self) -> Result<()> {
        match self.head {
            Some(Head::Bounded) => {
                bail!(Error::Usage("--head bounded is for `generate` of one prompt; expected file or f16".to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Opens model, threads and kernels, and the tokenizer or why there is none: token ids alone need none, so a broken one
    /// is told to whoever asks for text. The file is opened once.
    ///
    /// # Errors
    /// Whatever is wrong with names, file or CPU.
    pub fn open(&self) -> Result<(Opened, Result<Tokenizer>)> {
        let (format, loading) = (self.format()?, self.loading()?);
        let threads = self.threads.unwrap_or_else(crate::machine::cpus);
        if !(1..=4096).contains(&threads) {
            bail!(Error::Usage(format!("--threads: expected 1 to 4096, found {threads}")));
        }
        let plain = (format == WeightFormat::Reference).then_some("scalar");
        let isa = self.isa.as_deref().or(plain);
        let path = match data::resolve(&self.model, self.data.as_deref())? {
            Named::Spec(_, None) if self.cache => {
                bail!(Error::Usage(format!("--cache: model `{}` has no file", self.model)));
            }
            Named::Spec(ModelSpec::Synthetic(shape), None)
                if self.head == Some(Head::F16) && shape.head != HeadType::F16 =>
            {
                let found = shape.head.name();
                bail!(Error::Usage(format!(
                    "--head f16: model `{}` has no file to widen: it is made {found}",
                    self.model
                )));
            }
            Named::Spec(spec, None) => {
                let none = Error::Usage(format!("model `{}` has no tokenizer: give --tokens", self.model));
                return Ok((local::open(&spec, None, (format, HeadMode::Full), isa, threads)?, Err(none.into())));
            }
            Named::Spec(_, Some(path)) | Named::Path(path) => path,
        };
        let kernels = local::kernels(isa)?;
        let start = Instant::now();
        let source = self.reading.source(&path)?;
        let open = start.elapsed();
        let tokenizer = source.tokenizer();
        tokenizer.iter().for_each(|tokenizer| super::speak::tell(tokenizer.notes()));
        let start = Instant::now();
        let (model, from_cache) = match self.cache {
            true => {
                let cached = source.load_cached(loading)?;
                (cached.model, Some(cached.from_cache))
            }
            false => (source.load(loading)?, None),
        };
        let load_ns = (open + start.elapsed()).as_nanos() as u64;
        let pool = engine::threads::Pool::new(threads as usize, true)?;
        Ok((Opened { model, pool, kernels, load_ns, from_cache }, tokenizer))
    }
}

/// Token ids written as `1,2,3`.
///
/// # Errors
/// Anything that is no number.
pub fn parse_tokens(text: &str) -> Result<Vec<u32>, Error> {
    let bad = |t: &str| Error::Usage(format!("--tokens: expected token ids such as 1,2,3, found `{t}`"));
    text.split(',').map(|t| t.trim().parse::<u32>().map_err(|_| bad(t))).collect()
}
