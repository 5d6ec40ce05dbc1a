//! The forward pass of a batch of tokens at consecutive positions: prefill and decode are the same code.

use std::sync::Mutex;

use super::attention::{Queries, attention};
use super::config::Config;
use super::feed_forward::Gated;
use super::kv::KvCache;
use super::rope::Rope;
use super::sparse::Sparse;
use super::{Layer, Model};
use crate::error::Result;
use crate::input::Input;
use crate::kernels::attention::Scratch;
use crate::kernels::float;
use crate::kernels::isa::Kernels;
use crate::linear::Linear;
use crate::quant::buffer::Buffer;
use crate::threads::Team;

/// Activations of a batch, each `tokens x width` row-major. Aligned: outputs of prefill that straddled cache lines took a
/// tenth of its time.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The residual stream, `hidden` wide.
    residual: Buffer<f32>,
    /// What a block adds to it.
    delta: Buffer<f32>,
    /// Normed residual: what q, k, v, gate, up and the head read.
    normed: Input,
    q: Buffer<f32>,
    k: Buffer<f32>,
    v: Buffer<f32>,
    /// The attention's answer.
    mixed: Buffer<f32>,
    /// What o reads.
    attended: Input,
    gate: Buffer<f32>,
    up: Buffer<f32>,
    /// What down reads.
    gated: Input,
    /// One a worker.
    scratch: Vec<Mutex<Scratch>>,
    pub(super) sparse: Sparse,
}

impl Buffers {
    /// Room for batches of `tokens`; zero pages that cost no memory until a batch uses them.
    ///
    /// # Errors
    /// If the system has no memory for them.
    pub(super) fn new(config: &Config, tokens: usize, context: usize, threads: usize) -> Result<Buffers> {
        let scratch = |_| Mutex::new(Scratch::new(context, config.head_dim));
        Ok(Buffers {
            residual: Buffer::huge(tokens * config.hidden)?,
            delta: Buffer::huge(tokens * config.hidden)?,
            normed: Input::new(tokens, config.hidden),
            q: Buffer::huge(tokens * config.q_width())?,
            k: Buffer::huge(tokens * config.kv_width())?,
            v: Buffer::huge(tokens * config.kv_width())?,
            mixed: Buffer::huge(tokens * config.q_width())?,
            attended: Input::new(tokens, config.q_width()),
            gate: Buffer::huge(tokens * config.ffn)?,
            up: Buffer::huge(tokens * config.ffn)?,
            gated: Input::new(tokens, config.ffn),
            scratch: (0..threads).map(scratch).collect(),
            sparse: Sparse::default(),
        })
    }
}

/// The tokens of one sequence in a batch: consecutive rows, at consecutive positions.
pub(super) struct Span<'a> {
    /// The sequence's own cache.
    pub(super) cache: &'a mut KvCache,
    /// Position of the first token.
    pub(super) first: usize,
    /// Tokens, at least 1.
    pub(super) tokens: usize,
}

/// One batch on its way through the model: the spans of independent sequences, one after the other. Only attention and
/// the cache tell the sequences apart.
pub(super) struct Forward<'a> {
    model: &'a Model,
    team: &'a Team<'a>,
    kernels: Kernels,
    rope: &'a Rope,
    buffers: &'a mut Buffers,
    spans: &'a mut [Span<'a>],
    /// Of each row.
    positions: Vec<usize>,
    /// Tokens of all spans.
    tokens: usize,
}

impl<'a> Forward<'a> {
    /// A batch of these spans.
    pub(super) fn new(
        model: &'a Model,
        team: &'a Team<'a>,
        kernels: Kernels,
        rope: &'a Rope,
        buffers: &'a mut Buffers,
        spans: &'a mut [Span<'a>],
    ) -> Forward<'a> {
        let positions: Vec<usize> = spans.iter().flat_map(|span| span.first..span.first + span.tokens).collect();
        let tokens = positions.len();
        Forward { model, team, kernels, rope, buffers, spans, positions, tokens }
    }

    /// Embeds `ids` and runs all blocks; keys and values are stored, the residual stream is left in the buffers.
    pub(super) fn blocks(&mut self, ids: &[u32]) {
        self.embed(ids);
        for (index, layer) in self.model.layers.iter().enumerate() {
            self.norm(index > 0, &layer.attn_norm, &[&layer.q, &layer.k, &layer.v]);
            self.attend(index, layer);
            self.norm(true, &layer.ffn_norm, &[&layer.gate, &layer.up]);
            self.feed_forward(index, layer);
        }
        self.add();
    }

    /// Logits after the tokens in `rows` of the batch, `rows x vocab`.
    pub(super) fn logits(&mut self, rows: &[usize], out: &mut [f32]) {
        let (team, kernels, head) = (self.team, self.kernels, self.model.head());
        let normed = self.last_norm(rows);
        normed.prepare(team, kernels, head);
        head.forward(team, kernels, normed, out);
    }

    /// What the head reads for the tokens in `rows` of the batch.
    pub(super) fn last_norm(&mut self, rows: &[usize]) -> &mut Input {
        let (hidden, eps) = (self.model.config.hidden, self.model.config.norm_eps);
        let (kernels, weight) = (self.kernels, &self.model.output_norm);
        let Buffers { residual, normed, .. } = &mut *self.buffers;
        self.team.each_row(normed.f32_mut(rows.len()), hidden, |index, out| {
            float::rms_norm(kernels, &residual[rows[index] * hidden..][..hidden], weight, eps, out);
        });
        normed
    }

    /// Rows of the embedding matrix become the residual stream.
    fn embed(&mut self, ids: &[u32]) {
        let hidden = self.model.config.hidden;
        let residual = &mut self.buffers.residual[..self.tokens * hidden];
        let embedding = &self.model.embedding;
        self.team.each_row(residual, hidden, |token, out| embedding.row_to_f32(ids[token] as usize, out));
    }

    /// RMSNorm of the residual stream into `normed`, in the forms that `linears` read; what the block before left in
    /// `delta` is added first, if there is any.
    fn norm(&mut self, add: bool, weight: &[f32], linears: &[&Linear]) {
        let (kernels, hidden, eps) = (self.kernels, self.model.config.hidden, self.model.config.norm_eps);
        let Buffers { residual, normed, delta, .. } = &mut *self.buffers;
        let residual = &mut residual[..self.tokens * hidden];
        normed.fill((self.team, kernels), linears, (residual, hidden), |token, x, out| {
            if add {
                float::add_assign(kernels, x, &delta[token * hidden..][..hidden]);
            }
            float::rms_norm(kernels, x, weight, eps, out);
        });
    }

    /// Self-attention: `delta = o(sub_norm(attention(rope(norm(q)), rope(norm(k)), v)))`, the norms and biases where the
    /// model has them.
    fn attend(&mut self, index: usize, layer: &Layer) {
        let (config, team, kernels) = (&self.model.config, self.team, self.kernels);
        let (tokens, q_width, kv_width, eps) = (self.tokens, config.q_width(), config.kv_width(), config.norm_eps);
        let Buffers { normed, q, k, v, mixed, attended, delta, scratch, .. } = &mut *self.buffers;
        let (q, mixed) = (&mut q[..tokens * q_width], &mut mixed[..tokens * q_width]);
        let (k, v) = (&mut k[..tokens * kv_width], &mut v[..tokens * kv_width]);
        linears(team, kernels, normed, &mut [(&layer.q, q), (&layer.k, k), (&layer.v, v)]);
        add_bias(team, kernels, q, layer.q_bias.as_deref());
        add_bias(team, kernels, k, layer.k_bias.as_deref());
        add_bias(team, kernels, v, layer.v_bias.as_deref());

        let (rope, positions) = (self.rope, &self.positions);
        team.each_row_pair((q, q_width), (k, kv_width), |token, q, k| {
            norm_heads(kernels, q, layer.q_norm.as_deref(), eps);
            norm_heads(kernels, k, layer.k_norm.as_deref(), eps);
            rope.apply(kernels, positions[token], q);
            rope.apply(kernels, positions[token], k);
        });
        let (mut keys, mut values) = (&*k, &*v);
        for Span { cache, first, tokens } in self.spans.iter_mut() {
            let (now, later) = (keys.split_at(*tokens * kv_width), values.split_at(*tokens * kv_width));
            cache.append((team, kernels), (index, *first), now.0, later.0);
            (keys, values) = (now.1, later.1);
        }
        let queries = Queries { vectors: q, spans: self.spans, layer: index };
        attention(team, kernels, config, scratch, queries, mixed);
        attended.fill((team, kernels), &[&layer.o], (mixed, q_width), |_, x, out| match &layer.attn_sub_norm {
            Some(weight) => float::rms_norm(kernels, x, weight, eps, out),
            None => out.copy_from_slice(x),
        });
        let delta = &mut delta[..tokens * config.hidden];
        linears(team, kernels, attended, &mut [(&layer.o, &mut *delta)]);
        add_bias(team, kernels, delta, layer.o_bias.as_deref());
    }

    /// Feed-forward: `delta = down(sub_norm(act(gate) * up))`.
    fn feed_forward(&mut self, index: usize, layer: &Layer) {
        let (config, team, kernels, tokens) = (&self.model.config, self.team, self.kernels, self.tokens);
        let Buffers { normed, gate, up, gated: inside, delta, sparse, .. } = &mut *self.buffers;
        let (gate, up) = (&mut gate[..tokens * config.ffn], &mut up[..tokens * config.ffn]);
        let alone = self.model.sparse.get(index).filter(|_| tokens == 1);
        match alone {
            None => linears(team, kernels, normed, &mut [(&layer.gate, gate), (&layer.up, up)]),
            Some(packed) => {
                linears(team, kernels, normed, &mut [(&layer.gate, gate)]);
                sparse.up((team, kernels), (&layer.up, &packed.up), normed, (gate, up));
            }
        }
        let step = Gated { kernels, config, sub_norm: layer.ffn_sub_norm.as_deref() };
        inside.fill((team, kernels), &[&layer.down], (gate, config.ffn), |token, gate, out| {
            step.run(gate, &up[token * config.ffn..][..config.ffn], out);
        });
        let delta = &mut delta[..tokens * config.hidden];
        match alone {
            None => linears(team, kernels, inside, &mut [(&layer.down, delta)]),
            Some(packed) => sparse.down((team, kernels), (&layer.down, &packed.down), inside, delta),
        }
    }

    /// The residual addition.
    fn add(&mut self) {
        let (kernels, hidden) = (self.kernels, self.model.config.hidden);
        let Buffers { residual, delta, .. } = &mut *self.buffers;
        self.team.each_row(&mut residual[..self.tokens * hidden], hidden, |token, x| {
            float::add_assign(kernels, x, &delta[token * hidden..][..hidden]);
        });
    }
}

/// Adds a bias, if there is one, to every token's row of `x`.
fn add_bias(team: &Team<'_>, kernels: Kernels, x: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        team.each_row(x, bias.len(), |_, x| float::add_assign(kernels, x, bias));
    }
}

/// RMSNorm of each head of one token, if there is a norm.
fn norm_heads(kernels: Kernels, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    if let Some(weight) = weight {
        x.chunks_exact_mut(weight.len()).for_each(|head| float::rms_norm_in_place(kernels, head, weight, eps));
    }
}

/// Several linear layers of one input, in one fork and join.
fn linears(team: &Team<'_>, kernels: Kernels, input: &mut Input, outputs: &mut [(&Linear, &mut [f32])]) {
    for (linear, _) in outputs.iter() {
        input.prepare(team, kernels, linear);
    }
    Linear::forward_each(team, kernels, input, outputs);
}
