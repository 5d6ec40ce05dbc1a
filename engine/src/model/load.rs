//! Model files to [`Model`].
//!
//! The ternary engines take ternary tensors as they are. The f16 and bf16 engines hold a file's weights decoded and
//! rounded: of a quantised file they run the dequantised weights, which is still that file's function and not that of
//! the model it was quantised from. A weight too large for the 16 bits is refused, and a scale too small: that would make
//! a tensor of zeros. The reference takes ternary tensors as such and decodes others exactly. Norms stay f32. Embedding and
//! head of the ternary engines stay Q8_0 or Q6_K where the file has them so ([`HeadWeights`]), and are f16 else.
//!
//! Shapes are all checked before the first weight is decoded. Panels are made in parallel, of packed bytes where the
//! layout is a common one, else row by row; mapped pages are given back as they are done, so that the peak is little more
//! than the finished model.

mod cache;
mod gguf;
mod hf;
mod loading;
mod matrices;
mod sweep;

pub use cache::cache_path;
pub use gguf::{check_gguf, is_ternary_gguf, load_gguf, load_gguf_cached, load_gguf_from, predict_gguf_bytes};
pub(crate) use hf::read_config;
pub use hf::{check_hf, load_hf, load_hf_cached, predict_hf_bytes};
pub use loading::{HeadWeights, Loading};

use self::cache::{Cache, Fingerprint};
use self::loading::{Blocks, predict_bytes};
use self::sweep::Pages;
use super::{Config, Format, Layer, Model};
use crate::error::{Error, Result};
use crate::formats::gguf::Shape;
use crate::linear::Linear;
use crate::quant::words::PackedTrits;
use std::path::Path;

/// Weights by their GGUF names, wherever they come from.
trait Source {
    /// A weight of this source.
    type Weight<'a>: Weight
    where
        Self: 'a;

    /// The names of all weights that a model must use.
    fn names(&self) -> Vec<String>;

    fn weight(&self, name: &str) -> Option<Self::Weight<'_>>;

    /// The error that a weight is not there; `expected` is its shape.
    fn missing(&self, name: &str, expected: String) -> Error;
}

/// One weight of a [`Source`].
trait Weight: Pages {
    /// The shape in GGUF's order: a matrix is `[inputs, outputs]`.
    fn dims(&self) -> &[u64];

    /// The error that names this weight.
    fn wrong(&self, expected: &str, found: String) -> Error;

    /// What decodes a row; a weight that is not finite is an error.
    fn floats(&self) -> Result<impl Rows<f32>>;

    /// Whether this is a matrix of trits with one scale.
    fn is_ternary(&self) -> bool;

    /// The one scale of a ternary matrix, and what decodes a row to -1, 0 and 1; an error if it is none.
    fn trits(&self) -> Result<(f32, impl Rows<i8>)>;

    /// The trits as they are stored, if panels can be made of them at once; [`Weight::trits`] was no error.
    fn packed(&self) -> Option<PackedTrits<'_>>;

    /// The name of the 16-bit floats that are stored ([`Float16::NAME`]) and their bytes, little-endian, if they are.
    fn halves(&self) -> Option<(&'static str, &[u8])>;

    /// The blocks that are stored, if they are of a type that [`Blocks`] has.
    fn blocks(&self) -> Option<Blocks<'_>>;
}

/// Decodes row `.0` of a matrix into `.1`.
trait Rows<T>: Fn(usize, &mut [T]) -> Result<()> + Sync {}

impl<T, F: Fn(usize, &mut [T]) -> Result<()> + Sync> Rows<T> for F {}

/// Whether the linear layers of the blocks are ternary, all of them.
fn is_ternary<S: Source>(source: &S) -> bool {
    let mut linears = source.names().into_iter().filter(|name| name.starts_with("blk.")).peekable();
    let ternary = |name: String| source.weight(&name).is_some_and(|w| w.dims().len() < 2 || w.is_ternary());
    linears.peek().is_some() && linears.all(ternary)
}

struct Loader<'a, S> {
    source: &'a S,
    config: &'a Config,
    /// The architecture's name.
    name: &'static str,
    /// What the matrices become.
    loading: Loading,
    /// Where packed matrices are taken from, if they are there.
    cache: Option<&'a Cache>,
}

/// A model that was loaded by way of its cache.
#[derive(Debug)]
pub struct CachedModel {
    /// The model.
    pub model: Model,
    /// Whether its matrices came from the cache.
    pub from_cache: bool,
    /// What was wrong with the cache that was there, and why none was written, if so: the model is right all the same.
    pub notes: Vec<String>,
}

impl<'a, S: Source + Fingerprint> Loader<'a, S> {
    /// Loads from the cache at `path` if it is one of this source; else from the source, and writes the cache anew.
    fn load_cached(self, path: &Path) -> Result<CachedModel> {
        let (mut notes, fingerprint) = (Vec::new(), self.source.fingerprint());
        match Cache::open(path, self.loading, fingerprint) {
            Ok(None) => {}
            Ok(Some(cache)) => match (Loader { cache: Some(&cache), ..self }).load() {
                Ok(model) => return Ok(CachedModel { model, from_cache: true, notes }),
                Err(error) => notes.push(format!("{error}: made anew")),
            },
            Err(error) => notes.push(format!("{error}: made anew")),
        }
        let model = self.load()?;
        if let Err(error) = cache::write(path, self.loading, fingerprint, &model) {
            notes.push(format!("no cache is written: {error}"));
        }
        Ok(CachedModel { model, from_cache: false, notes })
    }
}

impl<S: Source> Loader<'_, S> {
    fn load(&self) -> Result<Model> {
        self.check()?;
        let config = self.config;
        config.check_format(self.loading.format)?;
        let embedding = self.take("token_embd.weight", config.vocab, config.hidden, false)?;
        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(self.layer(index)?);
        }
        let output_norm = self.vector("output_norm.weight", config.hidden)?;
        let head = match config.tied {
            true => None,
            false => Some(self.take("output.weight", config.vocab, config.hidden, false)?),
        };
        Model::new(config.clone(), embedding, layers, output_norm, head)?.packed_for(self.loading.format)
    }

    /// The tensors of a block and their shapes in the file's order.
    fn block(&self) -> Vec<(&'static str, Vec<u64>)> {
        let c = self.config;
        let shape = |inputs: usize, outputs: usize| vec![inputs as u64, outputs as u64];
        let mut parts = vec![
            ("attn_q.weight", shape(c.hidden, c.q_width())),
            ("attn_k.weight", shape(c.hidden, c.kv_width())),
            ("attn_v.weight", shape(c.hidden, c.kv_width())),
            ("attn_output.weight", shape(c.q_width(), c.hidden)),
            ("ffn_gate.weight", shape(c.hidden, c.ffn)),
            ("ffn_up.weight", shape(c.hidden, c.ffn)),
            ("ffn_down.weight", shape(c.ffn, c.hidden)),
        ];
        parts.extend(c.vectors().into_iter().filter_map(|(name, width)| Some((name, vec![width? as u64]))));
        parts
    }

    /// Every tensor wanted is there in its shape, and no other is.
    fn check(&self) -> Result<()> {
        let matrix = vec![self.config.hidden as u64, self.config.vocab as u64];
        self.find("token_embd.weight", &matrix)?;
        let block = self.block();
        for index in 0..self.config.layers {
            for (part, shape) in &block {
                self.find(&format!("blk.{index}.{part}"), shape)?;
            }
        }
        self.find("output_norm.weight", &matrix[..1])?;
        if !self.config.tied {
            self.find("output.weight", &matrix)?;
        }
        let known = |name: &str| {
            let outer = ["token_embd.weight", "output_norm.weight", "output.weight"];
            let inner = || {
                let (index, part) = name.strip_prefix("blk.")?.split_once('.')?;
                // No second spelling of an index, such as 007.
                let in_range = index.parse::<usize>().is_ok_and(|i| i < self.config.layers && i.to_string() == index);
                Some(in_range && block.iter().any(|(name, _)| *name == part))
            };
            outer.contains(&name) || inner() == Some(true)
        };
        for name in self.source.names() {
            if let (false, Some(other)) = (known(&name), self.source.weight(&name)) {
                let layers = self.config.layers;
                let expected = format!("only the tensors of a {} model of {layers} blocks", self.name);
                return Err(other.wrong(&expected, "one that would go unused".to_owned()));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str, shape: &[u64]) -> Result<S::Weight<'_>> {
        let Some(weight) = self.source.weight(name) else {
            return Err(self.source.missing(name, Shape(shape).to_string()));
        };
        if weight.dims() == shape {
            return Ok(weight);
        }
        let found = Shape(weight.dims()).to_string();
        Err(weight.wrong(&Shape(shape).to_string(), found))
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let c = self.config;
        let name = |part: &str| format!("blk.{index}.{part}.weight");
        let linear = |part: &str, rows, cols| self.take(&name(part), rows, cols, true);
        // Norms and biases that only some models have.
        let widths = c.vectors();
        let optional = |part: &str| {
            let width = widths.iter().find(|(name, _)| *name == part).and_then(|(_, width)| *width);
            width.map(|width| self.vector(&format!("blk.{index}.{part}"), width)).transpose()
        };
        Ok(Layer {
            attn_norm: self.vector(&name("attn_norm"), c.hidden)?,
            q: linear("attn_q", c.q_width(), c.hidden)?,
            k: linear("attn_k", c.kv_width(), c.hidden)?,
            v: linear("attn_v", c.kv_width(), c.hidden)?,
            q_bias: optional("attn_q.bias")?,
            k_bias: optional("attn_k.bias")?,
            v_bias: optional("attn_v.bias")?,
            q_norm: optional("attn_q_norm.weight")?,
            k_norm: optional("attn_k_norm.weight")?,
            attn_sub_norm: optional("attn_sub_norm.weight")?,
            o: linear("attn_output", c.hidden, c.q_width())?,
            o_bias: optional("attn_output.bias")?,
            ffn_norm: self.vector(&name("ffn_norm"), c.hidden)?,
            gate: linear("ffn_gate", c.ffn, c.hidden)?,
            up: linear("ffn_up", c.ffn, c.hidden)?,
            ffn_sub_norm: optional("ffn_sub_norm.weight")?,
            down: linear("ffn_down", c.hidden, c.ffn)?,
        })
    }

    /// Norm weights or a bias.
    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let mut weights = vec![0.0; width];
        let weight = self.find(name, &[width as u64])?;
        weight.floats()?(0, &mut weights)?;
        weight.release(0..weight.bytes());
        Ok(weights)
    }

    /// A matrix of the cache if there is one that has it, else of the source: a linear layer of a block, or not.
    fn take(&self, name: &str, rows: usize, cols: usize, of_block: bool) -> Result<Linear> {
        let kind = match self.loading.format {
            Format::Ternary | Format::TernarySparse if of_block => "ternary-2bit",
            Format::Base3 | Format::Base3Sparse if of_block => "ternary-1.6bit",
            Format::Bf16 => "bf16",
            _ => self.source.weight(name).and_then(|w| Some(self.loading.kept(&w)?.kind())).unwrap_or("f16"),
        };
        let cached = self.cache.map(|cache| cache.matrix(name, kind, rows, cols));
        match cached.transpose()?.flatten() {
            Some(linear) => Ok(linear),
            None if of_block => self.linear(name, rows, cols),
            None => self.matrix(name, rows, cols),
        }
    }

    /// A linear layer of a block, in the engine's format.
    fn linear(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        match self.loading.format {
            Format::Ternary | Format::TernarySparse | Format::Base3 | Format::Base3Sparse => {
                self.ternary(name, rows, cols)
            }
            Format::Reference if self.is_ternary(name) => self.reference_ternary(name, rows, cols),
            Format::F16 | Format::Bf16 | Format::Reference => self.matrix(name, rows, cols),
        }
    }

    fn is_ternary(&self, name: &str) -> bool {
        self.source.weight(name).is_some_and(|weight| weight.is_ternary())
    }

    /// Embedding, head, and linear layers that are not ternary.
    fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Linear> {
        if let Some(kept) = self.kept(name, rows, cols)? {
            return Ok(kept);
        }
        match self.loading.format {
            Format::Ternary | Format::TernarySparse | Format::Base3 | Format::Base3Sparse | Format::F16 => {
                self.float16(name, rows, cols).map(Linear::F16)
            }
            Format::Bf16 => self.float16(name, rows, cols).map(Linear::Bf16),
            Format::Reference => self.reference(name, rows, cols),
        }
    }
}
