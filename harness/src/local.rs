//! Opens the project's own engine. The only module that names `engine`, besides the commands that talk to a model.

use anyhow::{Context as _, Result, bail};
use engine::formats::gguf::GgufFile;
use engine::model::{self, Architecture, Config, Format, KvType, Model, RopeStyle, Session, SessionOptions};
use engine::synthetic::{self, HeadType, SyntheticSpec};
use engine::threads::Pool;
use engine::{Isa, Kernels};
use std::path::Path;
use suites::cell::KvCache;
use suites::model::{Activation, Family, ModelSpec, Shape, WeightFormat};

/// How far apart the logits of the two engines of a pair may be (relative root mean square, parts per 10⁹): they hold
/// the same weights, but one rounds activations to int8.
pub const PAIR_BOUND_PPB: u64 = (synthetic::PAIR_BOUND * 1e9) as u64;

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
        | engine::Error::ContextFull { .. } => 64,
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
}

/// Names of the instruction-set paths this machine can run.
pub fn isas() -> Vec<String> {
    Isa::available().iter().map(Isa::to_string).collect()
}

/// The engine's format for a definition's.
pub fn format(format: WeightFormat) -> Format {
    match format {
        WeightFormat::Ternary => Format::Ternary,
        WeightFormat::F16 => Format::F16,
    }
}

/// The engine's cache type for a cell's.
pub fn kv(kv: KvCache) -> KvType {
    match kv {
        KvCache::F16 => KvType::F16,
        KvCache::F32 => KvType::F32,
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
    };
    SyntheticSpec { config, seed: shape.seed, head }
}

/// Makes or loads a model and starts `threads` pinned threads.
///
/// # Errors
/// Whatever the file or the engine refuses, naming file and key.
pub fn open(
    spec: &ModelSpec,
    path: Option<&Path>,
    weights: WeightFormat,
    isa: Option<&str>,
    threads: u32,
) -> Result<Opened> {
    let kernels = kernels(isa)?;
    let pool = Pool::new(threads as usize, true)?;
    let model = match (spec, path) {
        (ModelSpec::Synthetic(shape), _) => synthetic::build(&self::spec(shape), format(weights))?,
        (ModelSpec::File(_), Some(path)) => load(path, weights)?,
        (ModelSpec::File(file), None) => bail!("model `{}`: no file given; {}", file.name, file.fetch),
    };
    Ok(Opened { model, pool, kernels })
}

/// Loads a GGUF file.
///
/// # Errors
/// Whatever is wrong with the file, naming it.
pub fn load(path: &Path, weights: WeightFormat) -> Result<Model> {
    let file = GgufFile::open(path)?;
    model::load_gguf(&file, format(weights)).with_context(|| format!("loading {}", path.display()))
}

impl Opened {
    /// A session for `context` positions.
    ///
    /// # Errors
    /// A context longer than the model allows.
    pub fn session(&self, context: usize, kv: KvType) -> Result<Session<'_>> {
        let options = SessionOptions { context, kv, max_batch: suites::model::MAX_BATCH as usize };
        Ok(Session::new(&self.model, &self.pool, self.kernels, options)?)
    }
}
