//! Read bandwidth of DRAM and caches by thread count: the limit that decoding is held against.
//!
//! Each thread, pinned, reads a block of its own: blocks that together are far larger than any cache, or that fit one.
//! Several access patterns (1 to 8 streams at once, as matrix kernels have, with and without prefetching) are tried, and
//! the best counts: a limit that is measured too low would flatter every share of it. Of a pattern's passes the median
//! counts.

use super::lockstep::{lockstep, median, rate};
use std::hint::black_box;
use std::time::Duration;

/// Least bytes read per pass from DRAM, over all threads.
pub(crate) const LEAST_BYTES: usize = 256 << 20;
/// Bytes read per pass from a cache by each thread, so that a pass is long beside the clock and the barrier.
const CACHE_PASS_BYTES: usize = 32 << 20;
/// Words of a stream that are read at once: eight 512-bit registers, so that in the nearest cache reading is timed and not
/// the loop.
const GROUP: usize = 64;
/// Bytes of a cache line. Blocks begin at one: a vector that straddles two takes twice as long from the nearest cache.
const LINE: usize = 64;

/// How a thread reads its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Parts of the block that are read side by side.
    pub streams: usize,
    /// Whether lines are asked for `AHEAD` bytes before they are read.
    pub prefetch: bool,
}

/// The patterns of which one has won on some machine.
const PATTERNS: [Pattern; 4] = [
    Pattern { streams: 1, prefetch: true },
    Pattern { streams: 4, prefetch: true },
    Pattern { streams: 2, prefetch: false },
    Pattern { streams: 8, prefetch: false },
];
/// Bytes that prefetching runs ahead: to the second-level cache, as the engine's kernels do.
const AHEAD: usize = 8192;
/// Passes per pattern where the figure stands for a whole run.
pub const THOROUGH: usize = 12;
/// Passes per pattern before a cell.
pub const QUICK: usize = 4;

/// A bandwidth, and the pattern it was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Bytes per second, over all threads.
    pub bytes_per_second: u64,
    /// How each thread read.
    pub pattern: Pattern,
    /// Bytes of each thread's block.
    pub block: usize,
}

/// The DRAM read bandwidth of `threads` pinned threads, the best access pattern's median of `passes`; `None` if a thread
/// failed. Twice what the last-level cache (of `l3` bytes) holds is read: no pass finds in it what the one before left.
pub fn dram(threads: usize, l3: usize, passes: usize) -> Option<Found> {
    measure(threads, LEAST_BYTES.max(2 * l3) / threads, 1, passes)
}

/// The bandwidth of reading blocks of `block` bytes again and again, so that they come from the cache they fit.
pub fn cache(threads: usize, block: usize, passes: usize) -> Option<Found> {
    measure(threads, block, (CACHE_PASS_BYTES / block.max(1)).max(1), passes)
}

fn measure(threads: usize, block: usize, rounds: usize, passes: usize) -> Option<Found> {
    let make = || {
        let room = filled(block + LINE);
        let mut pass = 0;
        move || {
            let start = room.as_ptr().align_offset(LINE).min(LINE / 8);
            let block = &room[start..start + block / 8];
            let pattern = PATTERNS[pass / passes % PATTERNS.len()];
            pass += 1;
            let words = expected(block.len(), pattern.streams);
            (0..rounds).all(|_| black_box(read(black_box(block), pattern)) == words)
        }
    };
    let times = lockstep(threads, PATTERNS.len() * passes, make)?;
    let of = |(pattern, times): (usize, &[Duration])| {
        let pattern = PATTERNS[pattern];
        let bytes = expected(block / 8, pattern.streams) * 8 * (rounds * threads) as u64;
        let bytes_per_second = rate(bytes, median(times)?)?;
        Some(Found { bytes_per_second, pattern, block })
    };
    times.chunks(passes.max(1)).enumerate().filter_map(of).max_by_key(|found| found.bytes_per_second)
}

/// A block of ones.
fn filled(bytes: usize) -> Vec<u64> {
    let mut block = vec![0u64; bytes / 8];
    advise_huge(&mut block);
    block.fill(1);
    block
}

/// Words that `read` covers: whole groups in each stream.
fn expected(words: usize, streams: usize) -> u64 {
    ((words / streams / GROUP) * GROUP * streams) as u64
}

fn advise_huge(block: &mut [u64]) {
    let (pointer, bytes) = (block.as_mut_ptr().cast::<u8>(), std::mem::size_of_val(block));
    let page = rustix::param::page_size();
    let skip = pointer.align_offset(page);
    if skip < bytes {
        // SAFETY: the range lies inside `block`, begins at a page and is only advised, which changes no contents.
        let _ = unsafe {
            rustix::mm::madvise(
                pointer.wrapping_add(skip).cast(),
                (bytes - skip) / page * page,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
}

fn read(block: &[u64], pattern: Pattern) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just detected.
            return unsafe { read_avx512(block, pattern) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { read_avx2(block, pattern) };
        }
    }
    read_pattern(block, pattern)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(block: &[u64], pattern: Pattern) -> u64 {
    read_pattern(block, pattern)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(block: &[u64], pattern: Pattern) -> u64 {
    read_pattern(block, pattern)
}

#[inline(always)]
fn read_pattern(block: &[u64], Pattern { streams, prefetch }: Pattern) -> u64 {
    if prefetch { read_words::<true>(block, streams) } else { read_words::<false>(block, streams) }
}

/// Sums all words, `streams` equal parts side by side, a group of each at a time.
#[inline(always)]
fn read_words<const PREFETCH: bool>(block: &[u64], streams: usize) -> u64 {
    let part = block.len() / streams;
    let mut sums = [0u64; GROUP];
    for group in 0..part / GROUP {
        for stream in 0..streams {
            let begin = stream * part + group * GROUP;
            let words = &block[begin..begin + GROUP];
            if PREFETCH {
                (0..GROUP).step_by(LINE / 8).for_each(|word| prefetch(words.as_ptr().wrapping_add(word)));
            }
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Asks for the line [`AHEAD`] bytes beyond `at`, where the architecture has a way to; it need not exist. Assembly keeps
/// its place among the reads: the compiler moves the intrinsic, which costs up to a third of the speed.
#[inline(always)]
fn prefetch(at: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing and cannot fault.
    unsafe {
        std::arch::asm!("prefetcht1 [{} + {}]", in(reg) at, const AHEAD, options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}, #{}]", in(reg) at, const AHEAD, options(nostack, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_reads_every_word() {
        let block = vec![1u64; GROUP * 8 * 5];
        for pattern in PATTERNS {
            assert_eq!(read(&block, pattern), block.len() as u64);
        }
        assert_eq!(expected(1000, 3), (1000 / 3 / GROUP * GROUP * 3) as u64);
    }

    #[test]
    fn bandwidth_is_a_sane_number() {
        for found in [dram(1, 0, QUICK), cache(1, 128 << 10, QUICK), cache(2, 100_000, 1)] {
            assert!((100_000_000..10_000_000_000_000).contains(&found.unwrap().bytes_per_second), "{found:?}");
        }
    }
}
