//! Read bandwidth of DRAM and caches by thread count: the limit that decoding is held against.
//!
//! Each thread, pinned, reads a block of its own: blocks that together are far larger than any cache, or that fit one.
//! Several access patterns (1 to 8 streams at once, as matrix kernels have) are tried, and the best counts: a limit that
//! is measured too low would flatter every share of it. Of a pattern's passes the median counts.

use super::lockstep::{lockstep, median, rate};
use std::hint::black_box;
use std::time::Duration;

/// Bytes read per pass from DRAM, over all threads: eight times the largest L3 seen on one die.
const TOTAL_BYTES: usize = 256 << 20;
/// Bytes read per pass from a cache by each thread, so that a pass is long beside the clock and the barrier.
const CACHE_PASS_BYTES: usize = 32 << 20;
/// Streams that a thread reads side by side.
const STREAMS: [usize; 4] = [1, 2, 4, 8];
/// Passes per pattern where the figure stands for a whole run.
pub const THOROUGH: usize = 12;
/// Passes per pattern before a cell.
pub const QUICK: usize = 4;

/// A bandwidth, and the pattern it was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Bytes per second, over all threads.
    pub bytes_per_second: u64,
    /// Streams that each thread read side by side.
    pub streams: usize,
    /// Bytes of each thread's block.
    pub block: usize,
}

/// The DRAM read bandwidth of `threads` pinned threads, the best access pattern's median of `passes` (half a second where
/// thorough); `None` if a thread failed.
pub fn dram(threads: usize, passes: usize) -> Option<Found> {
    measure(threads, TOTAL_BYTES / threads, 1, passes)
}

/// The bandwidth of reading blocks of `block` bytes again and again, so that they come from the cache they fit.
pub fn cache(threads: usize, block: usize, passes: usize) -> Option<Found> {
    measure(threads, block, (CACHE_PASS_BYTES / block.max(1)).max(1), passes)
}

fn measure(threads: usize, block: usize, rounds: usize, passes: usize) -> Option<Found> {
    let make = || {
        let block = filled(block);
        let mut pass = 0;
        move || {
            let streams = STREAMS[pass / passes % STREAMS.len()];
            pass += 1;
            let words = expected(block.len(), streams);
            (0..rounds).all(|_| black_box(read(black_box(&block), streams)) == words)
        }
    };
    let times = lockstep(threads, STREAMS.len() * passes, make)?;
    let of = |(pattern, times): (usize, &[Duration])| {
        let bytes = expected(block / 8, STREAMS[pattern]) * 8 * (rounds * threads) as u64;
        let bytes_per_second = rate(bytes, median(times)?)?;
        Some(Found { bytes_per_second, streams: STREAMS[pattern], block })
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

/// Words that `read` covers: whole groups of 32 in each stream.
fn expected(words: usize, streams: usize) -> u64 {
    ((words / streams / 32) * 32 * streams) as u64
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

fn read(block: &[u64], streams: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just detected.
            return unsafe { read_avx512(block, streams) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected.
            return unsafe { read_avx2(block, streams) };
        }
    }
    read_words(block, streams)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn read_avx512(block: &[u64], streams: usize) -> u64 {
    read_words(block, streams)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn read_avx2(block: &[u64], streams: usize) -> u64 {
    read_words(block, streams)
}

/// Sums all words, `streams` equal parts side by side, 32 words of each at a time.
#[inline(always)]
fn read_words(block: &[u64], streams: usize) -> u64 {
    let part = block.len() / streams;
    let mut sums = [0u64; 32];
    for group in 0..part / 32 {
        for stream in 0..streams {
            let begin = stream * part + group * 32;
            for (sum, word) in sums.iter_mut().zip(&block[begin..begin + 32]) {
                *sum = sum.wrapping_add(*word);
            }
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_reads_every_word() {
        let block = vec![1u64; 32 * 8 * 5];
        for streams in STREAMS {
            assert_eq!(read(&block, streams), block.len() as u64);
        }
        assert_eq!(expected(1000, 3), (1000 / 3 / 32 * 32 * 3) as u64);
    }

    #[test]
    fn bandwidth_is_a_sane_number() {
        for found in [dram(1, QUICK), cache(1, 128 << 10, QUICK), cache(2, 100_000, 1)] {
            assert!((100_000_000..10_000_000_000_000).contains(&found.unwrap().bytes_per_second), "{found:?}");
        }
    }
}
