//! Rotary position embedding (arXiv 2104.09864).

use super::config::{Config, RopeStyle};
use crate::kernels::float;
use crate::kernels::isa::Kernels;

/// Cosines and sines of every position and pair, computed once in f64.
#[derive(Debug)]
pub(super) struct Rope {
    style: RopeStyle,
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// The table for `context` positions: pair i turns by `position * theta^(-2i / head_dim) / factor[i]`.
    pub(super) fn new(config: &Config, context: usize) -> Rope {
        let pairs = config.head_dim / 2;
        let factor = |i: usize| config.rope_factors.get(i).map_or(1.0, |factor| f64::from(*factor));
        let frequency = |i: usize| config.rope_theta.powf(-2.0 * i as f64 / config.head_dim as f64) / factor(i);
        let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
        let table = |f: fn(f64) -> f64| {
            let mut table = Vec::with_capacity(context * pairs);
            for position in 0..context {
                table.extend(frequencies.iter().map(|frequency| f(position as f64 * frequency) as f32));
            }
            table
        };
        Rope { style: config.rope, pairs, cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns all heads of one token (`x` is whole heads) to `position`.
    pub(super) fn apply(&self, kernels: Kernels, position: usize, x: &mut [f32]) {
        let angles = position * self.pairs..(position + 1) * self.pairs;
        let (cos, sin) = (&self.cos[angles.clone()], &self.sin[angles]);
        match self.style {
            RopeStyle::Neox => float::rope_neox(kernels, x, cos, sin),
            RopeStyle::Interleaved => float::rope_interleaved(kernels, x, cos, sin),
        }
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.cos) + size_of_val(&*self.sin)
    }
}
