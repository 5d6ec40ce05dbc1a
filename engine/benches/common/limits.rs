//! The machine's limits, each measured when first asked for and again when it is a minute old.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use engine::Isa;

use super::Arithmetic;
use super::probe::{bandwidth, peak};

/// On a shared machine a limit holds for a while only.
const KEPT: Duration = Duration::from_secs(60);
/// Least block that reading is timed with: below, the probe's loop would be timed and not the cache.
const LEAST_BLOCK: usize = 16 << 10;

/// Limits measured so far.
#[derive(Default)]
pub(super) struct Limits {
    /// Bytes a second, by threads and block of each.
    reading: HashMap<(usize, usize), (Instant, Option<u64>)>,
    /// By threads and arithmetic, each instruction's.
    peaks: HashMap<(usize, Arithmetic), (Instant, Vec<peak::Found>)>,
}

impl Limits {
    /// Bytes a second that `threads` threads read from memory of `bytes`, divided among them, again and again: from
    /// whatever cache holds it, or DRAM.
    pub(super) fn reading(&mut self, threads: usize, bytes: usize) -> Option<u64> {
        let block = (bytes / threads).max(LEAST_BLOCK);
        let measure = || bandwidth::cache(threads, block, bandwidth::QUICK).map(|found| found.bytes_per_second);
        fresh(&mut self.reading, (threads, block), measure)
    }

    /// Operations a second of the instruction that the path's kernels are made of; `None` for plain code, and where the
    /// probe knows none.
    pub(super) fn peak(&mut self, threads: usize, isa: Isa, arithmetic: Arithmetic) -> Option<peak::Found> {
        let name = instruction(isa, arithmetic)?;
        let element = match arithmetic {
            Arithmetic::Int8 => peak::Element::Int8,
            Arithmetic::F32 => peak::Element::F32,
        };
        let measure = || peak::each(threads, element, peak::QUICK).unwrap_or_default();
        let found = fresh(&mut self.peaks, (threads, arithmetic), measure);
        Some(found.into_iter().find(|found| found.instruction == name).expect("a path's instruction among the probe's"))
    }
}

fn fresh<K: Eq + std::hash::Hash, V: Clone>(
    known: &mut HashMap<K, (Instant, V)>,
    key: K,
    measure: impl Fn() -> V,
) -> V {
    let entry = known.entry(key).or_insert_with(|| (Instant::now(), measure()));
    if entry.0.elapsed() > KEPT {
        *entry = (Instant::now(), measure());
    }
    entry.1.clone()
}

/// The multiply-add of a path, by the probe's name.
fn instruction(isa: Isa, arithmetic: Arithmetic) -> Option<&'static str> {
    match (isa, arithmetic) {
        (Isa::Scalar, _) => None,
        (Isa::Avx512, Arithmetic::Int8) => Some("vpdpbusd zmm"),
        (Isa::AvxVnni, Arithmetic::Int8) => Some("vpdpbusd ymm"),
        (Isa::Avx2, Arithmetic::Int8) => Some("vpmaddubsw + vpaddw ymm"),
        (Isa::Avx512, Arithmetic::F32) => Some("vfmadd231ps zmm"),
        (Isa::Avx2 | Isa::AvxVnni, Arithmetic::F32) => Some("vfmadd231ps ymm"),
    }
}
