//! Attention without the model around it, so that benches can measure it.

use std::sync::Mutex;

use super::attention::{Queries, attention};
use super::config::Config;
use super::forward::Span;
use super::kv::{KvCache, KvType};
use crate::error::Result;
use crate::kernels::attention::Scratch;
use crate::kernels::isa::Kernels;
use crate::threads::Team;

/// The attention of all layers of a model of some shape, and a cache for one sequence.
#[derive(Debug)]
pub struct Attention {
    config: Config,
    cache: KvCache,
    scratch: Vec<Mutex<Scratch>>,
}

impl Attention {
    /// Room for `context` positions and teams of up to `threads`.
    ///
    /// # Errors
    /// [`Error::Size`](crate::Error::Size) or [`Error::Memory`](crate::Error::Memory) if the cache fits no memory.
    pub fn new(config: &Config, threads: usize, context: usize, kv: KvType) -> Result<Attention> {
        let scratch = |_| Mutex::new(Scratch::new(context, config.head_dim));
        let cache = KvCache::new(config, context, kv)?;
        Ok(Attention { config: config.clone(), cache, scratch: (0..threads).map(scratch).collect() })
    }

    /// Stores keys and values (`tokens x kv_width` each) of a layer at the positions from `first` on.
    ///
    /// # Panics
    /// If they do not fit the cache.
    pub fn append(
        &mut self,
        team: &Team<'_>,
        kernels: Kernels,
        layer: usize,
        first: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        self.cache.append((team, kernels), (layer, first), keys, values);
    }

    /// Attention of the queries (`tokens x q_width`) of the positions from `first` on to all positions up to their own;
    /// answers of the same shape go to `out`.
    ///
    /// # Panics
    /// If the slices are not of this shape, or the team has more threads than were made room for.
    pub fn attend(
        &mut self,
        team: &Team<'_>,
        kernels: Kernels,
        layer: usize,
        first: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let tokens = queries.len() / self.config.q_width();
        let spans = [Span { cache: &mut self.cache, first, tokens }];
        let queries = Queries { vectors: queries, spans: &spans, layer };
        attention(team, kernels, &self.config, &self.scratch, queries, out);
    }
}
