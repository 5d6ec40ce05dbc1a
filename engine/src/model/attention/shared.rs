//! Decode where the key/value heads do not come out even among the workers: those left over are shared by all, each
//! worker reading a part of their keys, then, when all scores are there, some dimensions of their values.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::{Part, Queries};
use crate::kernels::attention::{Element, FEW, Head, Query, Scratch, Share, attend_share, blocks};
use crate::kernels::isa::Kernels;
use crate::kernels::lanes::LANES;
use crate::model::config::Config;
use crate::model::forward::Span;
use crate::model::kv::KvCache;
use crate::threads::Team;

/// How many of the last heads are shared: none but in pure decode, nor where a worker would get no dimensions.
pub(super) fn left_over(threads: usize, config: &Config, spans: &[Span<'_>]) -> usize {
    let decode = spans.iter().all(|span| span.tokens == 1);
    let shareable = config.group() <= FEW && threads <= config.head_dim.div_ceil(LANES);
    if decode && shareable { spans.len() * config.kv_heads % threads } else { 0 }
}

/// The heads that all workers share.
pub(super) struct Shared<'a> {
    pub(super) kernels: Kernels,
    pub(super) config: &'a Config,
    pub(super) queries: Queries<'a>,
    pub(super) threads: usize,
    /// The last this many of all spans' key/value heads.
    pub(super) heads: usize,
}

impl Shared<'_> {
    /// Puts a worker's part of the scores of each shared head's queries to `scores`, in turn.
    pub(super) fn scores(&self, worker: usize, scratch: &mut Scratch, scores: &mut Vec<f32>) {
        for index in 0..self.heads {
            let (part, head, queries) = self.head(index);
            let queries = &queries[..self.config.group()];
            let blocks = share(blocks(queries), self.threads, worker);
            let positions = blocks.start * LANES..blocks.end * LANES;
            self.attend(part, head, queries, Share { blocks, ..Share::default() }, scratch);
            (0..queries.len()).for_each(|query| scores.extend(&scratch.scores(query)[positions.clone()]));
        }
    }

    /// The answers of the shared heads' queries, from the scores of all workers.
    pub(super) fn answers(
        &self,
        team: &Team<'_>,
        scratch: &[Mutex<Scratch>],
        scores: Vec<Mutex<Vec<f32>>>,
        out: &mut [f32],
    ) {
        let dim = self.config.head_dim;
        let groups = |worker| share(0..dim.div_ceil(LANES), self.threads, worker);
        let scores: Vec<_> = scores.into_iter().map(|part| part.into_inner().unwrap_or_default()).collect();
        let mut columns: Vec<Vec<&mut [f32]>> = (0..self.threads).map(|_| Vec::new()).collect();
        for mut row in out.chunks_exact_mut(dim) {
            for (worker, columns) in columns.iter_mut().enumerate() {
                columns.extend(row.split_off_mut(..(groups(worker).len() * LANES).min(row.len())));
            }
        }
        let columns: Vec<Mutex<Vec<&mut [f32]>>> = columns.into_iter().map(Mutex::new).collect();
        team.run(&|worker| {
            let mut scratch = scratch[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let mut columns = columns[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let mut out = columns.iter_mut();
            let mut parts: Vec<&[f32]> = scores.iter().map(Vec::as_slice).collect();
            for index in 0..self.heads {
                let (part, head, queries) = self.head(index);
                let queries = &queries[..self.config.group()];
                for query in 0..queries.len() {
                    for (worker, part) in parts.iter_mut().enumerate() {
                        let blocks = share(blocks(queries), self.threads, worker);
                        let to = &mut scratch.scores(query)[blocks.start * LANES..blocks.end * LANES];
                        to.copy_from_slice(part.split_off(..to.len()).unwrap_or_default());
                    }
                }
                let groups = groups(worker);
                let first = groups.start * LANES;
                self.attend(part, head, queries, Share { groups, ..Share::default() }, &mut scratch);
                for (query, out) in (0..queries.len()).zip(&mut out) {
                    out.copy_from_slice(&scratch.answer(query)[first..][..out.len()]);
                }
            }
        });
    }

    /// A shared head: its span, its number there, and its queries.
    fn head(&self, index: usize) -> (Part<'_>, usize, [Query<'_>; FEW]) {
        let Shared { config, queries, .. } = self;
        let of_all = queries.spans.len() * config.kv_heads - self.heads + index;
        let (span, head) = (of_all / config.kv_heads, of_all % config.kv_heads);
        let vectors = &queries.vectors[span * config.q_width()..][..config.q_width()];
        let span = &queries.spans[span];
        let part = Part { vectors, cache: span.cache, first: span.first, layer: queries.layer };
        let group = config.group();
        let query = |n: usize| part.query(config, 0, (head * group + n.min(group - 1)) * config.head_dim);
        (part, head, std::array::from_fn(query))
    }

    fn attend(&self, part: Part<'_>, head: usize, queries: &[Query<'_>], share: Share, scratch: &mut Scratch) {
        match part.cache {
            KvCache::F16(cache) => self.attend_head(cache.head(part.layer, head), queries, share, scratch),
            KvCache::F32(cache) => self.attend_head(cache.head(part.layer, head), queries, share, scratch),
            KvCache::Int8(cache) => self.attend_head(cache.head(part.layer, head), queries, share, scratch),
        }
    }

    fn attend_head<E: Element>(&self, head: Head<'_, E>, queries: &[Query<'_>], share: Share, scratch: &mut Scratch) {
        let scale = 1.0 / (self.config.head_dim as f32).sqrt();
        attend_share(self.kernels, queries, head, (scale, share), scratch);
    }
}

/// The share of a range that falls to one worker of some; shares differ by at most one.
fn share(of: Range<usize>, threads: usize, worker: usize) -> Range<usize> {
    of.start + of.len() * worker / threads..of.start + of.len() * (worker + 1) / threads
}
