//! Opens the project's own engine. The only module that names `engine`, besides the commands that talk to a model.

use crate::error::Error;
use crate::machine;
use anyhow::{Context as _, Result, bail};
use engine::bounded::{BoundedHead, HeadReads};
use engine::formats::{GgufFile, HfFolder};
use engine::generate::BatchScorer;
use engine::model::{
    self, Architecture, Batch, CachedModel, Config, Crossover, Format, HeadWeights, KvType, Loading, Model, RopeStyle,
    Session, SessionOptions, SparseReads,
};
use engine::synthetic::{self, HeadType, SyntheticSpec};
use engine::threads::Pool;
use engine::tokenizer::Tokenizer;
use engine::{Isa, Kernels};
use std::path::Path;
use std::time::Instant;
use suites::arithmetic::Counted;
use suites::cell::KvCache;
use suites::model::{Activation, Family, HeadMode, ModelSpec, Shape, WeightFormat};
use suites::record::{Bounded, Sparsity};

/// How far apart the logits of the two engines of a pair may be (relative root mean square, parts per 10⁹): they hold
/// the same weights, but one rounds activations to int8.
pub const PAIR_BOUND_PPB: u64 = (synthetic::PAIR_BOUND * 1e9) as u64;

/// Up to how many percent of rows and columns a sparse engine reads them alone, with AVX-512, AVX-VNNI and AVX2.
pub(crate) fn crossovers() -> [Crossover; 3] {
    [Isa::Avx512, Isa::AvxVnni, Isa::Avx2].map(Crossover::of_isa)
}

/// Exit code after an error of the engine: 65 for a file that can't be used, 64 for a request that can't be met.
pub fn exit_code(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<engine::formats::FormatError>() || cause.is::<engine::tokenizer::TokenizerError>() {
        return Some(65);
    }
    Some(match cause.downcast_ref::<engine::Error>()? {
        engine::Error::UnknownIsa { .. }
        | engine::Error::IsaUnavailable { .. }
        | engine::Error::Token { .. }
        | engine::Error::EmptyPrompt
        | engine::Error::ContextFull { .. }
        // A file's own configuration is told by its key, as a format error: this one was asked for.
        | engine::Error::Config { .. }
        | engine::Error::Threads { .. }
        | engine::Error::Size { what: "context (positions)" | "stride (tokens)", .. } => 64,
        _ => 65,
    })
}

/// A model in memory with everything needed to run it.
pub struct Opened {
    /// The weights.
    pub model: Model,
    /// The pinned worker threads.
    pub pool: Pool,
    /// The instruction-set path.
    pub kernels: Kernels,
    /// Time that making or loading the model took, in nanoseconds; the tokenizer, threads and kernels are not in it.
    pub load_ns: u64,
    /// Whether the model came from the cache beside its file, if one was asked for.
    pub from_cache: Option<bool>,
}

/// Names of the instruction-set paths this machine can run.
pub fn isas() -> Vec<String> {
    Isa::available().iter().map(Isa::to_string).collect()
}

impl Opened {
    /// What the papers' energy model counts of this model: its blocks by their shape.
    pub fn counted(&self) -> Counted {
        let config = self.model.config();
        let wide = |count: usize| count as u64;
        Counted::gated(
            wide(config.layers),
            wide(config.hidden),
            wide(config.ffn),
            wide(config.heads),
            wide(config.kv_heads),
            wide(config.head_dim),
        )
    }
}

/// The engine's format for a definition's.
pub fn format(format: WeightFormat) -> Format {
    match format {
        WeightFormat::Ternary => Format::Ternary,
        WeightFormat::TernarySparse => Format::TernarySparse,
        WeightFormat::Base3Sparse => Format::Base3Sparse,
        WeightFormat::Base3 => Format::Base3,
        WeightFormat::F16 => Format::F16,
        WeightFormat::Bf16 => Format::Bf16,
        WeightFormat::Reference => Format::Reference,
    }
}

/// What an engine that reads the head so makes of a file's weights: a bounded copy is of an f16 head.
fn loading(weights: WeightFormat, head: HeadMode) -> Loading {
    let head = if head == HeadMode::Bounded { HeadWeights::F16 } else { HeadWeights::File };
    Loading { format: format(weights), head }
}

/// The engine's cache type for a cell's.
pub fn kv(kv: KvCache) -> KvType {
    match kv {
        KvCache::F16 => KvType::F16,
        KvCache::F32 => KvType::F32,
        KvCache::Int8 => KvType::Int8,
    }
}

/// The kernels of a forced instruction set, or the best there is.
///
/// # Errors
/// An unknown name, or one this CPU can't run.
pub fn kernels(isa: Option<&str>) -> Result<Kernels> {
    let isa = isa.map(|name| name.parse::<Isa>()).transpose()?;
    Ok(Kernels::new(isa)?)
}

/// What the engine makes of a shape.
pub fn spec(shape: &Shape) -> SyntheticSpec {
    let bitnet = shape.family == Family::Bitnet;
    let config = Config {
        arch: if bitnet { Architecture::BitNet } else { Architecture::Llama },
        hidden: shape.hidden as usize,
        ffn: shape.ffn as usize,
        layers: shape.layers as usize,
        heads: shape.heads as usize,
        kv_heads: shape.kv_heads as usize,
        head_dim: shape.head_dim() as usize,
        vocab: shape.vocab as usize,
        norm_eps: 1e-5,
        rope_theta: shape.rope_theta,
        rope: RopeStyle::Neox,
        rope_factors: Vec::new(),
        attention_bias: false,
        output_bias: false,
        qk_norm: false,
        sliding_window: None,
        activation: match shape.activation {
            Activation::Silu => model::Activation::Silu,
            Activation::Relu2 => model::Activation::Relu2,
        },
        sub_norms: bitnet,
        context: shape.context as usize,
        tied: shape.tied,
    };
    let head = match shape.head {
        suites::model::HeadType::F16 => HeadType::F16,
        suites::model::HeadType::Q8_0 => HeadType::Q8_0,
        suites::model::HeadType::Q6K => HeadType::Q6K,
    };
    SyntheticSpec { config, seed: shape.seed, head, gate_zeros: shape.gate_zeros }
}

/// What a session of a sparse model left unread since its counts were `before`; `None` if no single token was evaluated.
pub fn sparsity(session: &Session<'_>, before: SparseReads) -> Option<Sparsity> {
    let (now, crossover) = (session.sparse_reads()?, session.crossover()?);
    let layers = now.layers - before.layers;
    (layers > 0).then(|| Sparsity {
        tokens: layers / session.model().config().layers as u64,
        layers,
        up_layers: now.up_layers - before.up_layers,
        down_layers: now.down_layers - before.down_layers,
        up_crossover_percent: crossover.rows,
        down_crossover_percent: crossover.columns,
        gates: now.gates - before.gates,
        zero_gates: now.zero_gates - before.zero_gates,
        zero_activations: now.zero_activations - before.zero_activations,
        read_bytes: now.bytes - before.bytes,
        dense_bytes: now.dense_bytes - before.dense_bytes,
    })
}

/// A bounded copy of the model's f16 head.
///
/// # Errors
/// A head that is no f16, or memory that the system refuses.
pub fn bounded(opened: &Opened) -> Result<BoundedHead<'_>> {
    let bytes = opened.model.head().bytes() as u64;
    room("the copy of the head", bytes / 100 * 60)?;
    Ok(BoundedHead::of(&opened.model, &opened.pool, opened.kernels)?)
}

/// What the session's bounded head has read since `before`; `None` without one, and where no token was chosen.
pub fn head_reads(session: &Session<'_>, head: &BoundedHead<'_>, before: HeadReads) -> Option<Bounded> {
    let now = session.head_reads()?;
    let tokens = now.steps - before.steps;
    (tokens > 0).then(|| Bounded {
        tokens,
        read_bytes: now.bytes - before.bytes,
        refined_rows: now.refined_rows - before.refined_rows,
        rescored_rows: now.rescored_rows - before.rescored_rows,
        full_steps: now.full_steps - before.full_steps,
        rows: session.model().config().vocab as u64,
        kept_columns: head.kept().len() as u64,
        full_bytes: head.exact_bytes() as u64,
        first_bytes: head.first_bytes() as u64,
        copy_bytes: head.bytes() as u64,
    })
}

/// Makes or loads a model, its head for how it is read, and starts `threads` pinned threads.
///
/// # Errors
/// Whatever the file or the engine refuses, naming file and key.
pub fn open(
    spec: &ModelSpec,
    path: Option<&Path>,
    (weights, head): (WeightFormat, HeadMode),
    isa: Option<&str>,
    threads: u32,
) -> Result<Opened> {
    let kernels = kernels(isa)?;
    let pool = Pool::new(threads as usize, true)?;
    let start = Instant::now();
    let model = match (spec, path) {
        (ModelSpec::Synthetic(shape), _) => {
            room(&format!("model `{}`", shape.name), spec.weight_bytes(weights))?;
            synthetic::build(&self::spec(shape), format(weights))?
        }
        (ModelSpec::File(_), Some(path)) => Source::open(path)?.load(loading(weights, head))?,
        (ModelSpec::File(file), None) => bail!("model `{}`: no file given; {}", file.name, file.fetch),
    };
    Ok(Opened { model, pool, kernels, load_ns: start.elapsed().as_nanos() as u64, from_cache: None })
}

/// A model's weights on disk.
pub enum Source {
    /// A GGUF file.
    Gguf(GgufFile),
    /// A Hugging Face folder.
    Folder(HfFolder),
}

impl Source {
    /// Opens a file or folder.
    ///
    /// # Errors
    /// Whatever is wrong with it, naming it.
    pub fn open(path: &Path) -> Result<Source> {
        Ok(match path.is_dir() {
            true => Source::Folder(HfFolder::open(path)?),
            false => Source::Gguf(GgufFile::open(path)?),
        })
    }

    /// The tokenizer: in the GGUF file, or `tokenizer.json` in the folder.
    ///
    /// # Errors
    /// Whatever is wrong with it, or that there is none.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Ok(match self {
            Source::Gguf(file) => Tokenizer::from_gguf(file)?,
            Source::Folder(folder) => Tokenizer::from_json(folder.path().join("tokenizer.json"))?,
        })
    }

    /// Loads the model, if its weights fit this machine's memory.
    ///
    /// # Errors
    /// Whatever is wrong with it, naming it.
    pub fn load(&self, loading: Loading) -> Result<Model> {
        self.room(loading)?;
        let model = match self {
            Source::Gguf(file) => model::load_gguf(file, loading),
            Source::Folder(folder) => model::load_hf(folder, loading),
        };
        model.with_context(|| format!("loading {}", self.path().display()))
    }

    /// The same by way of the cache beside it: from there, or written there. What is wrong with a cache is told on stderr.
    ///
    /// # Errors
    /// As [`Source::load`], and a format that has no cache.
    pub fn load_cached(&self, loading: Loading) -> Result<CachedModel> {
        let Some(path) = model::cache_path(self.path(), loading) else {
            bail!(Error::Usage("--cache: expected an engine of packed weights, found the reference".to_owned()));
        };
        self.room(loading)?;
        let cached = match self {
            Source::Gguf(file) => model::load_gguf_cached(file, loading, &path),
            Source::Folder(folder) => model::load_hf_cached(folder, loading, &path),
        };
        let cached = cached.with_context(|| format!("loading {}", self.path().display()))?;
        cached.notes.iter().for_each(|note| eprintln!("cache: {note}"));
        Ok(cached)
    }

    fn path(&self) -> &Path {
        match self {
            Source::Gguf(file) => file.path(),
            Source::Folder(folder) => folder.path(),
        }
    }

    fn room(&self, loading: Loading) -> Result<()> {
        let bytes = match self {
            Source::Gguf(file) => model::predict_gguf_bytes(file, loading),
            Source::Folder(folder) => model::predict_hf_bytes(folder, loading),
        };
        room(&self.path().display().to_string(), bytes)
    }
}

/// Whether the ternary engine can run the GGUF file at `path`.
///
/// # Errors
/// Whatever is wrong with the file, naming it.
pub fn is_ternary(path: &Path) -> Result<bool> {
    Ok(model::is_ternary_gguf(&GgufFile::open(path)?))
}

/// Refuses what would drive the machine out of memory, where the system tells how much there is.
fn room(what: &str, bytes: u64) -> Result<()> {
    let Some(available) = machine::available_bytes().filter(|&available| bytes > available / 100 * 90) else {
        return Ok(());
    };
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let needs = format!("needs {:.1} GB, {:.1} GB available", gigabytes(bytes), gigabytes(available));
    bail!(Error::Usage(format!("{what}: {needs}")))
}

impl Opened {
    /// A session for `context` positions.
    ///
    /// # Errors
    /// A context longer than the model allows.
    pub fn session(&self, context: usize, kv: KvType) -> Result<Session<'_>> {
        let options = self.options(context, kv, 1)?;
        Ok(Session::new(&self.model, &self.pool, self.kernels, options)?)
    }

    /// Scores texts of at most `context` tokens, many together, in caches of about `cache_bytes`.
    ///
    /// # Errors
    /// As [`Opened::session`].
    pub fn scorer(&self, context: usize, kv: KvType, cache_bytes: u64) -> Result<BatchScorer<'_>> {
        let options = self.options(context, kv, 1)?;
        Ok(BatchScorer::new(&self.model, &self.pool, self.kernels, options, cache_bytes)?)
    }

    /// `sequences` independent sequences of up to `context` positions each.
    ///
    /// # Errors
    /// As [`Opened::session`].
    pub fn batch(&self, context: usize, kv: KvType, sequences: usize) -> Result<Batch<'_>> {
        let options = self.options(context, kv, sequences)?;
        Ok(Batch::new(&self.model, &self.pool, self.kernels, options, sequences)?)
    }

    /// Bytes that a sequence of `context` positions takes beside the model, about.
    pub fn cache_bytes(&self, context: usize, kv: KvType) -> u64 {
        Session::predict_bytes(&self.model, self.pool.threads(), context, kv)
    }

    /// Options for caches that fit this machine's memory.
    fn options(&self, context: usize, kv: KvType, sequences: usize) -> Result<SessionOptions> {
        let bytes = self.cache_bytes(context, kv);
        if context <= self.model.config().context {
            room(&format!("{sequences} x a context of {context} tokens"), bytes.saturating_mul(sequences as u64))?;
        }
        Ok(SessionOptions { context, kv, max_batch: suites::model::MAX_BATCH as usize })
    }
}
