//! The key/value cache.

use half::f16;

use super::config::Config;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, Element, Head, HeadMut};
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::LANES;
use crate::quant::buffer::{Buffer, Plain};
use crate::threads::Team;

/// The number type of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Half precision, as llama.cpp's default.
    #[default]
    F16,
    /// Single precision.
    F32,
    /// 8 bits, with one scale for the key and one for the value of each head and position. Queries are rounded to 8 bits as
    /// well, softmax weights to 15.
    Int8,
}

impl KvType {
    /// The name used in requests and records.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::F32 => "f32",
            KvType::Int8 => "int8",
        }
    }

    fn element_bytes(self) -> usize {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
            KvType::Int8 => 1,
        }
    }

    /// As [`Element::SIDE`].
    fn side(self) -> usize {
        match self {
            KvType::F16 => f16::SIDE,
            KvType::F32 => f32::SIDE,
            KvType::Int8 => i8::SIDE,
        }
    }

    /// Bytes of the scales of a head and position.
    fn scale_bytes(self) -> usize {
        match self {
            KvType::F16 | KvType::F32 => 0,
            KvType::Int8 => 2 * size_of::<f32>(),
        }
    }

    /// As [`KvType::cache_bytes`] without its padding, for a context of any size.
    pub(super) fn predict_bytes(self, config: &Config, context: usize) -> u64 {
        let element = self.element_bytes() as u64;
        let heads = (config.layers as u64).saturating_mul(config.kv_heads as u64);
        heads
            .saturating_mul(2 * config.head_dim as u64 * element + self.scale_bytes() as u64)
            .saturating_mul(context as u64)
    }

    /// Bytes of a cache of `context` positions for a model of shape `config`, its padding included.
    pub fn cache_bytes(self, config: &Config, context: usize) -> usize {
        let element = self.element_bytes();
        let layout = Layout::new(config, context, self.side());
        let scales = config.layers * config.kv_heads * layout.scale_head * self.scale_bytes();
        layout.chunks * layout.pitch() * element + scales
    }
}

/// Positions of a chunk of the cache. What a session takes grows by chunks: all layers' keys and values of a chunk lie side
/// by side, so that huge pages hold nothing but positions that are, or soon will be, in use.
const POSITIONS: usize = 4 * attention::CHUNK;

/// Where things lie in the cache: `[chunk][layer][keys, values][head]`; see [`attention`] for the layout inside a head.
#[derive(Clone, Copy, Debug)]
struct Layout {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Dimensions of a key, its padding included, and of a value.
    key_dim: usize,
    stride: usize,
    chunks: usize,
    /// Positions of a chunk.
    chunk: usize,
    /// Scales of one head's keys, and of its values, if they have any.
    scale_head: usize,
}

impl Layout {
    fn new(config: &Config, context: usize, side: usize) -> Layout {
        let chunk = POSITIONS.min(context.next_multiple_of(LANES));
        Layout {
            layers: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            key_dim: config.head_dim.next_multiple_of(side),
            stride: config.head_dim.next_multiple_of(LANES),
            chunks: context.div_ceil(chunk),
            chunk,
            scale_head: context.next_multiple_of(LANES),
        }
    }

    /// Elements of the keys of one head in a chunk, and of its values.
    fn head(&self) -> (usize, usize) {
        (self.chunk * self.key_dim, self.chunk * self.stride)
    }

    /// Elements of a layer in a chunk.
    fn layer(&self) -> usize {
        let (keys, values) = self.head();
        self.kv_heads * (keys + values)
    }

    /// Elements of a chunk.
    fn pitch(&self) -> usize {
        self.layers * self.layer()
    }
}

/// Keys and values of all layers in one number type.
#[derive(Debug)]
pub(super) struct Cache<E: Element + Plain> {
    layout: Layout,
    data: Buffer<E>,
    /// `[layer][head][position]`; empty without scales.
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

impl<E: Element + Plain> Cache<E> {
    fn new(config: &Config, context: usize) -> Result<Cache<E>> {
        let layout = Layout::new(config, context, E::SIDE);
        let scales = if E::SCALED { layout.layers * layout.kv_heads * layout.scale_head } else { 0 };
        let (data, scales) = (Buffer::huge(layout.chunks * layout.pitch())?, vec![0.0; scales]);
        Ok(Cache { layout, data, key_scales: scales.clone(), value_scales: scales })
    }

    /// All heads of a layer from the first position of a chunk on, in this chunk.
    fn heads(&mut self, layer: usize, chunk: usize) -> Vec<HeadMut<'_, E>> {
        let layout = self.layout;
        let (key_head, value_head) = layout.head();
        let data = &mut self.data[chunk * layout.pitch() + layer * layout.layer()..][..layout.layer()];
        let (keys, values) = data.split_at_mut(layout.kv_heads * key_head);
        let rows = layout.kv_heads * layout.scale_head;
        let of_layer = |scales| if E::SCALED { part_mut(scales, layer, rows) } else { scales };
        let (mut key_scales, mut value_scales) = (of_layer(&mut self.key_scales), of_layer(&mut self.value_scales));
        let scales = if E::SCALED { layout.scale_head } else { 0 };
        let first = if E::SCALED { chunk * layout.chunk } else { 0 };
        let head = |(keys, values)| HeadMut {
            keys,
            values,
            key_scales: &mut key_scales.split_off_mut(..scales).unwrap_or_default()[first..],
            value_scales: &mut value_scales.split_off_mut(..scales).unwrap_or_default()[first..],
        };
        keys.chunks_exact_mut(key_head).zip(values.chunks_exact_mut(value_head)).map(head).collect()
    }

    /// As [`KvCache::append`].
    fn append(&mut self, (team, kernels): (&Team<'_>, Kernels), at: (usize, usize), keys: &[f32], values: &[f32]) {
        let Layout { kv_heads, head_dim, chunk, .. } = self.layout;
        let ((layer, mut first), width) = (at, kv_heads * head_dim);
        let (mut keys, mut values) = (keys, values);
        while !keys.is_empty() {
            let (index, offset) = (first / chunk, first % chunk);
            let rows = (keys.len() / width).min(chunk - offset);
            let ((key_rows, more_keys), (value_rows, more_values)) =
                (keys.split_at(rows * width), values.split_at(rows * width));
            let mut heads = self.heads(layer, index);
            if rows == 1 {
                // Less work than waking the others.
                attention::store(kernels, &mut heads, offset, (key_rows, value_rows), (width, head_dim));
            } else {
                team.each_row(&mut heads, 1, |index, head| {
                    let of_head = (&key_rows[index * head_dim..], &value_rows[index * head_dim..]);
                    attention::store(kernels, head, offset, of_head, (width, head_dim));
                });
            }
            (keys, values, first) = (more_keys, more_values, first + rows);
        }
    }

    /// As [`KvCache::copy`].
    fn copy(&mut self, from: &Cache<E>, positions: usize) {
        let layout = self.layout;
        let (key_head, value_head) = layout.head();
        for chunk in 0..positions.div_ceil(layout.chunk) {
            let here = (positions - chunk * layout.chunk).min(layout.chunk);
            // Keys lie in blocks of sixteen positions; values, where several positions lie side by side, all over the chunk.
            let keys = here.next_multiple_of(LANES) * layout.key_dim;
            let values = if E::SIDE == 1 { here * layout.stride } else { value_head };
            for layer in 0..layout.layers {
                let first = chunk * layout.pitch() + layer * layout.layer();
                for head in 0..layout.kv_heads {
                    let at = first + head * key_head;
                    self.data[at..at + keys].copy_from_slice(&from.data[at..at + keys]);
                    let at = first + layout.kv_heads * key_head + head * value_head;
                    self.data[at..at + values].copy_from_slice(&from.data[at..at + values]);
                }
            }
        }
        if E::SCALED {
            let all = [(&mut self.key_scales, &from.key_scales), (&mut self.value_scales, &from.value_scales)];
            for (to, from) in all {
                let heads = to.chunks_exact_mut(layout.scale_head).zip(from.chunks_exact(layout.scale_head));
                heads.for_each(|(to, from)| to[..positions].copy_from_slice(&from[..positions]));
            }
        }
    }

    /// The keys and the values of one head.
    pub(super) fn head(&self, layer: usize, head: usize) -> Head<'_, E> {
        let layout = self.layout;
        let (key_head, value_head) = layout.head();
        let keys = layer * layout.layer();
        let number = layer * layout.kv_heads + head;
        let scales = |all| if E::SCALED { part(all, number, layout.scale_head) } else { all };
        Head {
            data: &self.data,
            keys: keys + head * key_head,
            values: keys + layout.kv_heads * key_head + head * value_head,
            chunk: layout.chunk,
            pitch: layout.pitch(),
            key_scales: scales(&self.key_scales),
            value_scales: scales(&self.value_scales),
        }
    }
}

/// Part `index` of parts of `len`.
fn part<T>(all: &[T], index: usize, len: usize) -> &[T] {
    &all[index * len..][..len]
}

/// As [`part`], to write to.
fn part_mut<T>(all: &mut [T], index: usize, len: usize) -> &mut [T] {
    &mut all[index * len..][..len]
}

/// The cache of a session.
#[derive(Debug)]
pub(super) enum KvCache {
    F16(Cache<f16>),
    F32(Cache<f32>),
    Int8(Cache<i8>),
}

impl KvCache {
    /// An empty cache for `context` positions.
    ///
    /// # Errors
    /// [`Error::Size`] if it cannot fit any address space, [`Error::Memory`] if the system refuses it.
    pub(super) fn new(config: &Config, context: usize, kind: KvType) -> Result<KvCache> {
        let heads = config.layers.checked_mul(config.kv_heads);
        let values = heads
            .and_then(|n| n.checked_mul(config.head_dim + LANES))
            .and_then(|n| n.checked_mul(context.saturating_add(POSITIONS)));
        if values.is_none_or(|n| n > isize::MAX as usize / 16) {
            let expected = "a key/value cache that fits the address space".into();
            return Err(Error::Size { what: "context", expected, found: context });
        }
        Ok(match kind {
            KvType::F16 => KvCache::F16(Cache::new(config, context)?),
            KvType::F32 => KvCache::F32(Cache::new(config, context)?),
            KvType::Int8 => KvCache::Int8(Cache::new(config, context)?),
        })
    }

    /// Takes over the first `positions` positions of a cache of the same shape and type.
    ///
    /// # Panics
    /// If it is of another type.
    pub(super) fn copy(&mut self, from: &KvCache, positions: usize) {
        match (self, from) {
            (KvCache::F16(to), KvCache::F16(from)) => to.copy(from, positions),
            (KvCache::F32(to), KvCache::F32(from)) => to.copy(from, positions),
            (KvCache::Int8(to), KvCache::Int8(from)) => to.copy(from, positions),
            _ => panic!("caches of one type"),
        }
    }

    /// Stores the keys and values (`tokens x kv_width` each) of a layer, `at.0`, at the positions from `at.1` on.
    pub(super) fn append(&mut self, team: (&Team<'_>, Kernels), at: (usize, usize), keys: &[f32], values: &[f32]) {
        match self {
            KvCache::F16(cache) => cache.append(team, at, keys, values),
            KvCache::F32(cache) => cache.append(team, at, keys, values),
            KvCache::Int8(cache) => cache.append(team, at, keys, values),
        }
    }
}
