//! The machine's limits, each measured when first asked for and again when it is a minute old.
//!
//! Other work on the machine can only lower what is found, and a limit too low flatters: so the best of some rounds counts,
//! and where a kernel was faster the limit is measured again.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use engine::Isa;

use super::Arithmetic;
use super::probe::{bandwidth, peak};

/// On a shared machine a limit holds for a while only.
const KEPT: Duration = Duration::from_secs(60);
/// Rounds, each the probe's median.
const ROUNDS: usize = 3;
/// Least block that reading is timed with: below, the probe's loop would be timed and not the cache.
const LEAST_BLOCK: usize = 16 << 10;

/// Limits measured so far, per second, and when.
#[derive(Default)]
pub(super) struct Limits {
    /// Bytes, by threads and block of each.
    reading: HashMap<(usize, usize), (Instant, u64)>,
    /// Operations, by threads and instruction.
    peaks: HashMap<(usize, &'static str), (Instant, u64)>,
}

impl Limits {
    /// Bytes a second that `threads` threads read from memory of `bytes`, divided among them, again and again: from
    /// whatever cache holds it, or DRAM. A kernel `reached` so many.
    pub(super) fn reading(&mut self, threads: usize, bytes: usize, reached: f64) -> Option<u64> {
        let block = (bytes / threads).max(LEAST_BLOCK);
        let measure = || Some(bandwidth::cache(threads, block, bandwidth::QUICK)?.bytes_per_second);
        best(&mut self.reading, (threads, block), reached, measure)
    }

    /// Operations a second of the instruction that the path's kernels are made of, and its name; `None` for plain code. A
    /// kernel `reached` so many.
    pub(super) fn peak(
        &mut self,
        threads: usize,
        isa: Isa,
        arithmetic: Arithmetic,
        reached: f64,
    ) -> Option<(u64, &'static str)> {
        let (element, name) = instruction(isa, arithmetic)?;
        let measure = || {
            let found = peak::of(threads, element, name, peak::QUICK).expect("a path's instruction");
            Some(found.operations_per_second)
        };
        Some((best(&mut self.peaks, (threads, name), reached, measure)?, name))
    }
}

fn best<K: Eq + Hash>(
    known: &mut HashMap<K, (Instant, u64)>,
    key: K,
    reached: f64,
    measure: impl Fn() -> Option<u64>,
) -> Option<u64> {
    let mut found = match known.get(&key) {
        Some((when, found)) if when.elapsed() < KEPT => *found,
        _ => (0..ROUNDS).filter_map(|_| measure()).max()?,
    };
    for _ in 0..ROUNDS {
        if reached > found as f64 {
            found = found.max(measure()?);
        }
    }
    let when = known.get(&key).map_or_else(Instant::now, |(when, _)| *when);
    known.insert(key, (if when.elapsed() < KEPT { when } else { Instant::now() }, found));
    Some(found)
}

/// The multiply-add of a path, by the probe's name.
fn instruction(isa: Isa, arithmetic: Arithmetic) -> Option<(peak::Element, &'static str)> {
    use peak::Element::{Bf16, F32, Int8};
    match (isa, arithmetic) {
        (Isa::Scalar, _) => None,
        (Isa::Amx, Arithmetic::Int8) => Some((Int8, "tdpbssd tmm")),
        (Isa::Avx512, Arithmetic::Int8) => Some((Int8, "vpdpbusd zmm")),
        (Isa::AvxVnni, Arithmetic::Int8) => Some((Int8, "vpdpbusd ymm")),
        (Isa::Avx2, Arithmetic::Int8) => Some((Int8, "vpmaddubsw + vpaddw ymm")),
        (Isa::Avx512 | Isa::Amx, Arithmetic::Bf16) if has_bf16() => Some((Bf16, "vdpbf16ps zmm")),
        (Isa::Avx512 | Isa::Amx, Arithmetic::F32 | Arithmetic::Bf16) => Some((F32, "vfmadd231ps zmm")),
        (Isa::Avx2 | Isa::AvxVnni, Arithmetic::F32 | Arithmetic::Bf16) => Some((F32, "vfmadd231ps ymm")),
    }
}

/// Whether the CPU multiplies bf16.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}
