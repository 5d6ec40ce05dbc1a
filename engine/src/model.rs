//! One model code for the LLaMA family and BitNet b1.58: what a model is, and [`Session`], which evaluates it.
//!
//! `forward` is the paper's transformer, in order; the files beside it are its parts.

mod alone;
mod attention;
mod batch;
mod config;
mod evaluate;
mod feed_forward;
mod forward;
mod kv;
mod load;
mod rope;
mod session;
mod sparse;

pub use crate::kernels::sparse::Crossover;
pub use alone::Attention;
pub use batch::Batch;
pub use config::{Activation, Architecture, Config, Format, Llama3Scaling, RopeStyle};
pub use kv::KvType;
pub(crate) use load::read_config;
pub use load::{
    CachedModel, HeadWeights, Loading, cache_path, check_gguf, check_hf, is_ternary_gguf, load_gguf, load_gguf_cached,
    load_gguf_from, load_hf, load_hf_cached, predict_gguf_bytes, predict_hf_bytes,
};
pub use session::{Session, SessionOptions};
pub use sparse::SparseReads;

use crate::error::{Error, Result};
use crate::linear::Linear;
use sparse::SparseLayer;

/// One transformer block. Norm weights are `[hidden]` unless said otherwise.
#[derive(Debug)]
pub struct Layer {
    /// RMSNorm before attention.
    pub attn_norm: Vec<f32>,
    /// Queries, `[heads * head_dim x hidden]`.
    pub q: Linear,
    /// Keys, `[kv_heads * head_dim x hidden]`.
    pub k: Linear,
    /// Values, `[kv_heads * head_dim x hidden]`.
    pub v: Linear,
    /// Added to the queries, `[heads * head_dim]`; with [`Config::attention_bias`] only.
    pub q_bias: Option<Vec<f32>>,
    /// Added to the keys, `[kv_heads * head_dim]`; as `q_bias`.
    pub k_bias: Option<Vec<f32>>,
    /// Added to the values, `[kv_heads * head_dim]`; as `q_bias`.
    pub v_bias: Option<Vec<f32>>,
    /// RMSNorm of each head's query before RoPE, `[head_dim]`; with [`Config::qk_norm`] only.
    pub q_norm: Option<Vec<f32>>,
    /// RMSNorm of each head's key before RoPE, `[head_dim]`; as `q_norm`.
    pub k_norm: Option<Vec<f32>>,
    /// RMSNorm of the attention's answer, `[heads * head_dim]`; BitNet b1.58 only.
    pub attn_sub_norm: Option<Vec<f32>>,
    /// Attention output, `[hidden x heads * head_dim]`.
    pub o: Linear,
    /// Added to the attention output; with [`Config::output_bias`] only.
    pub o_bias: Option<Vec<f32>>,
    /// RMSNorm before the feed-forward.
    pub ffn_norm: Vec<f32>,
    /// Gate, `[ffn x hidden]`.
    pub gate: Linear,
    /// Up projection, `[ffn x hidden]`.
    pub up: Linear,
    /// RMSNorm of the gated activations, `[ffn]`; BitNet b1.58 only.
    pub ffn_sub_norm: Option<Vec<f32>>,
    /// Down projection, `[hidden x ffn]`.
    pub down: Linear,
}

impl Layer {
    /// The seven linear layers, by their GGUF names.
    pub fn linears(&self) -> [(&'static str, &Linear); 7] {
        [
            ("attn_q", &self.q),
            ("attn_k", &self.k),
            ("attn_v", &self.v),
            ("attn_output", &self.o),
            ("ffn_gate", &self.gate),
            ("ffn_up", &self.up),
            ("ffn_down", &self.down),
        ]
    }

    /// The norm weights and biases, in the order of [`Config::vectors`]; `None` where this layer has none.
    pub(crate) fn vectors(&self) -> [Option<&[f32]>; 10] {
        [
            Some(&self.attn_norm),
            self.q_bias.as_deref(),
            self.k_bias.as_deref(),
            self.v_bias.as_deref(),
            self.q_norm.as_deref(),
            self.k_norm.as_deref(),
            self.attn_sub_norm.as_deref(),
            self.o_bias.as_deref(),
            Some(&self.ffn_norm),
            self.ffn_sub_norm.as_deref(),
        ]
    }
}

/// A model ready to run: a configuration and weights that fit it.
#[derive(Debug)]
pub struct Model {
    config: Config,
    embedding: Linear,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    head: Option<Linear>,
    /// One a layer, in the sparse format; else none.
    sparse: Vec<SparseLayer>,
}

/// Bytes of a model's weights in memory, padding included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The linear layers of all blocks, in all packings held.
    pub linear_bytes: usize,
    /// Weights of those layers, padding left out: each a multiply-add a token.
    pub linear_weights: usize,
    /// The embedding (which is also the head of a tied model).
    pub embedding_bytes: usize,
    /// The separate head; 0 in a tied model.
    pub head_bytes: usize,
    /// All norm weights and biases.
    pub norm_bytes: usize,
    /// Weight bytes read to decode one token: linear layers, norms, head, and one embedding row. Of a sparse model the
    /// most that can be: [`Session::sparse_reads`] tells what was left out.
    pub read_per_token: usize,
}

impl Footprint {
    /// Everything together.
    pub fn total(&self) -> usize {
        self.linear_bytes + self.embedding_bytes + self.head_bytes + self.norm_bytes
    }
}

impl Model {
    /// Puts a model together. `head` is `None` in a tied model, whose head is its embedding `[vocab x hidden]`.
    ///
    /// # Errors
    /// [`Error::Config`], or [`Error::Tensor`] naming the weight that does not fit the configuration.
    pub fn new(
        config: Config,
        embedding: Linear,
        layers: Vec<Layer>,
        output_norm: Vec<f32>,
        head: Option<Linear>,
    ) -> Result<Model> {
        config.validate()?;
        if layers.len() != config.layers {
            return Err(Error::Size { what: "layers", expected: config.layers.to_string(), found: layers.len() });
        }
        check_linear("token_embd", &embedding, (config.vocab, config.hidden))?;
        for (index, layer) in layers.iter().enumerate() {
            check_layer(&config, index, layer)?;
        }
        check_vector("output_norm", Some(&output_norm), Some(config.hidden))?;
        match (&head, config.tied) {
            (Some(head), false) => check_linear("output", head, (config.vocab, config.hidden))?,
            (None, true) => {}
            (Some(_), true) => return Err(mismatch("output", "no head: it is tied to token_embd", "a head")),
            (None, false) => return Err(mismatch("output", "a head: it is not tied to token_embd", "none")),
        }
        Ok(Model { config, embedding, layers, output_norm, head, sparse: Vec::new() })
    }

    /// The shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The blocks, first to last.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The embedding, `[vocab x hidden]`.
    pub fn embedding(&self) -> &Linear {
        &self.embedding
    }

    /// RMSNorm before the head, `[hidden]`.
    pub fn output_norm(&self) -> &[f32] {
        &self.output_norm
    }

    /// The output head, `[vocab x hidden]`; the embedding if tied.
    pub fn head(&self) -> &Linear {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Whether rows of `up` and columns of `down` behind zero gates stay unread.
    pub fn is_sparse(&self) -> bool {
        !self.sparse.is_empty()
    }

    /// The packing of the linear layers, as records name it.
    pub fn linear_kind(&self) -> &'static str {
        let kind = self.layers.first().map_or("none", |layer| layer.q.kind());
        match (self.is_sparse(), kind) {
            (true, "ternary-1.6bit") => "ternary-1.6bit-sparse",
            (true, _) => "ternary-2bit-sparse",
            (false, kind) => kind,
        }
    }

    /// What the weights take.
    pub fn footprint(&self) -> Footprint {
        let linears = |layer: &Layer| layer.linears().iter().map(|(_, linear)| linear.bytes()).sum::<usize>();
        let norms = |layer: &Layer| layer.vectors().into_iter().flatten().map(size_of_val).sum::<usize>();
        let dense_bytes: usize = self.layers.iter().map(linears).sum();
        let linear_bytes = dense_bytes + self.sparse.iter().map(SparseLayer::bytes).sum::<usize>();
        let norm_bytes = self.layers.iter().map(norms).sum::<usize>() + size_of_val(&*self.output_norm);
        let embedding_bytes = self.embedding.bytes();
        let weights = |layer: &Layer| layer.linears().iter().map(|(_, l)| l.rows() * l.cols()).sum::<usize>();
        Footprint {
            linear_bytes,
            linear_weights: self.layers.iter().map(weights).sum(),
            embedding_bytes,
            head_bytes: self.head.as_ref().map_or(0, Linear::bytes),
            norm_bytes,
            read_per_token: dense_bytes + norm_bytes + self.head().bytes() + embedding_bytes / self.config.vocab,
        }
    }
}

fn check_layer(config: &Config, index: usize, layer: &Layer) -> Result<()> {
    let (hidden, q, kv, ffn) = (config.hidden, config.q_width(), config.kv_width(), config.ffn);
    let shapes = [(q, hidden), (kv, hidden), (kv, hidden), (hidden, q), (ffn, hidden), (ffn, hidden), (hidden, ffn)];
    for ((name, linear), shape) in layer.linears().into_iter().zip(shapes) {
        check_linear(&format!("blk.{index}.{name}"), linear, shape)?;
    }
    for (vector, (name, width)) in layer.vectors().into_iter().zip(config.vectors()) {
        check_vector(&format!("blk.{index}.{name}"), vector, width)?;
    }
    Ok(())
}

fn check_linear(name: &str, linear: &Linear, (rows, cols): (usize, usize)) -> Result<()> {
    if (linear.rows(), linear.cols()) == (rows, cols) {
        return Ok(());
    }
    Err(mismatch(name, &format!("{rows} x {cols}"), &format!("{} x {}", linear.rows(), linear.cols())))
}

fn check_vector(name: &str, vector: Option<&[f32]>, width: Option<usize>) -> Result<()> {
    if vector.map(<[f32]>::len) == width {
        return Ok(());
    }
    let say = |width: Option<usize>| width.map_or("none".to_owned(), |width| format!("{width} values"));
    Err(mismatch(name, &say(width), &say(vector.map(<[f32]>::len))))
}

fn mismatch(name: &str, expected: &str, found: &str) -> Error {
    Error::Tensor { name: name.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

#[cfg(test)]
mod tests;
