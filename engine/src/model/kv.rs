//! The key/value cache.

use half::f16;

use super::config::Config;
use crate::error::{Error, Result};
use crate::kernels::attention::{Element, Head};
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
    /// 8 bits, with one scale for the key and one for the value of each head and position.
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
        let layout = Layout::new(config, context);
        let scales = layout.scale_head * self.scale_bytes();
        config.layers * config.kv_heads * ((layout.key_head + layout.value_head) * element + scales)
    }
}

/// Where things lie in a layer's cache; see [`crate::kernels::attention`] for the layout inside a head.
#[derive(Clone, Copy, Debug)]
struct Layout {
    kv_heads: usize,
    head_dim: usize,
    /// Elements between the values of two positions.
    stride: usize,
    /// Elements of one head's keys and of its values.
    key_head: usize,
    value_head: usize,
    /// Scales of one head's keys, and of its values, if they have any.
    scale_head: usize,
}

impl Layout {
    fn new(config: &Config, context: usize) -> Layout {
        let stride = config.head_dim.next_multiple_of(LANES);
        Layout {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            stride,
            key_head: context.next_multiple_of(LANES) * config.head_dim,
            value_head: context * stride,
            scale_head: context.next_multiple_of(LANES),
        }
    }
}

/// Keys and values of all layers in one number type.
#[derive(Debug)]
pub(super) struct Cache<E: Element + Plain> {
    layout: Layout,
    layers: Vec<LayerCache<E>>,
}

/// Keys and values of one layer.
#[derive(Debug)]
struct LayerCache<E: Element + Plain> {
    keys: Buffer<E>,
    values: Buffer<E>,
    /// Empty without scales.
    key_scales: Vec<f32>,
    value_scales: Vec<f32>,
}

/// One head of a layer, to write to.
struct HeadMut<'a, E> {
    keys: &'a mut [E],
    values: &'a mut [E],
    key_scales: &'a mut [f32],
    value_scales: &'a mut [f32],
}

impl<E: Element + Plain> LayerCache<E> {
    fn heads(&mut self, layout: Layout) -> Vec<HeadMut<'_, E>> {
        let (mut key_scales, mut value_scales) = (&mut *self.key_scales, &mut *self.value_scales);
        let scales = if E::SCALED { layout.scale_head } else { 0 };
        let heads = self.keys.chunks_exact_mut(layout.key_head).zip(self.values.chunks_exact_mut(layout.value_head));
        let head = |(keys, values)| HeadMut {
            keys,
            values,
            key_scales: key_scales.split_off_mut(..scales).unwrap_or_default(),
            value_scales: value_scales.split_off_mut(..scales).unwrap_or_default(),
        };
        heads.map(head).collect()
    }
}

impl<E: Element + Plain> Cache<E> {
    fn new(config: &Config, context: usize) -> Result<Cache<E>> {
        let layout = Layout::new(config, context);
        let scales = if E::SCALED { layout.kv_heads * layout.scale_head } else { 0 };
        let layer = |_| -> Result<_> {
            Ok(LayerCache {
                keys: Buffer::by_page(layout.kv_heads * layout.key_head)?,
                values: Buffer::by_page(layout.kv_heads * layout.value_head)?,
                key_scales: vec![0.0; scales],
                value_scales: vec![0.0; scales],
            })
        };
        Ok(Cache { layout, layers: (0..config.layers).map(layer).collect::<Result<_>>()? })
    }

    /// As [`KvCache::append`].
    fn append(&mut self, team: &Team<'_>, layer: usize, first: usize, keys: &[f32], values: &[f32]) {
        let Layout { kv_heads, head_dim, stride, .. } = self.layout;
        let width = kv_heads * head_dim;
        let store = |index: usize, head: &mut HeadMut<'_, E>| {
            let (key_cache, value_cache) = (&mut *head.keys, &mut *head.values);
            let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
            for (position, (key, value)) in (first..).zip(rows) {
                let (key, value) = (&key[index * head_dim..][..head_dim], &value[index * head_dim..][..head_dim]);
                let (key_scale, value_scale) = (E::scale(key), E::scale(value));
                if E::SCALED {
                    (head.key_scales[position], head.value_scales[position]) = (key_scale, value_scale);
                }
                let block = &mut key_cache[position / LANES * LANES * head_dim..][..LANES * head_dim];
                for (slots, x) in block.chunks_exact_mut(LANES).zip(key) {
                    slots[position % LANES] = E::from_f32(*x, key_scale);
                }
                for (slot, x) in value_cache[position * stride..].iter_mut().zip(value) {
                    *slot = E::from_f32(*x, value_scale);
                }
            }
        };
        let mut heads = self.layers[layer].heads(self.layout);
        if keys.len() == width {
            // One token: less work than waking the others.
            heads.iter_mut().enumerate().for_each(|(index, head)| store(index, head));
        } else {
            team.each_row(&mut heads, 1, |index, head| store(index, &mut head[0]));
        }
    }

    /// The keys and the values of one head.
    pub(super) fn head(&self, layer: usize, head: usize) -> Head<'_, E> {
        let Layout { key_head, value_head, scale_head, .. } = self.layout;
        let layer = &self.layers[layer];
        let scales = |all| if E::SCALED { part(all, head, scale_head) } else { all };
        Head {
            keys: part(&layer.keys, head, key_head),
            values: part(&layer.values, head, value_head),
            key_scales: scales(&layer.key_scales),
            value_scales: scales(&layer.value_scales),
        }
    }
}

/// Part `index` of parts of `len`.
fn part<T>(all: &[T], index: usize, len: usize) -> &[T] {
    &all[index * len..][..len]
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
        let values =
            heads.and_then(|n| n.checked_mul(config.head_dim + LANES)).and_then(|n| n.checked_mul(context + LANES));
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

    /// Stores the keys and values (`tokens x kv_width` each) of the positions from `first` on.
    pub(super) fn append(&mut self, team: &Team<'_>, layer: usize, first: usize, keys: &[f32], values: &[f32]) {
        match self {
            KvCache::F16(cache) => cache.append(team, layer, first, keys, values),
            KvCache::F32(cache) => cache.append(team, layer, first, keys, values),
            KvCache::Int8(cache) => cache.append(team, layer, first, keys, values),
        }
    }
}
