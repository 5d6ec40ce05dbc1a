//! DRAM read bandwidth by thread count: the limit that decoding is held against.
//!
//! Each thread, pinned, reads a block of its own; the blocks together are far larger than any cache. Several access
//! patterns (1 to 8 streams at once, as matrix kernels have) are tried, and the best counts: a limit that is measured too
//! low would flatter every share of it. Of a pattern's passes the median counts: what a memory shared with others gives
//! for some milliseconds, no decoding of seconds can have.

use rustix::thread::CpuSet;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use suites::run::Bandwidth;

/// Bytes read per pass, over all threads: eight times the largest L3 seen on one die.
const TOTAL_BYTES: usize = 256 << 20;
/// Streams that a thread reads side by side.
const STREAMS: [usize; 4] = [1, 2, 4, 8];
/// Passes per pattern where the figure stands for a whole run.
pub const THOROUGH: usize = 12;
/// Passes per pattern before a cell.
pub const QUICK: usize = 4;

/// CPUs this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    let mask = rustix::thread::sched_getaffinity(None);
    mask.map_or_else(|_| vec![0], |set| (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Measures the read bandwidth of `threads` pinned threads, the best access pattern's median of `passes` (half a second
/// where thorough); `None` if a thread failed.
pub fn measure(threads: usize, passes: usize) -> Option<Bandwidth> {
    let cpus = allowed_cpus();
    let barrier = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let one = |index: usize| {
            let (cpus, barrier) = (&cpus, &barrier);
            scope.spawn(move || read_passes(cpus[index % cpus.len()], TOTAL_BYTES / threads, passes, barrier))
        };
        let handles: Vec<_> = (0..threads).map(one).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let count = times.iter().map(Vec::len).min()?;
    let slowest: Vec<Duration> = (0..count).filter_map(|pass| times.iter().map(|t| t[pass]).max()).collect();
    let best = slowest.chunks(passes.max(1)).filter_map(median).min()?.as_secs_f64();
    let bytes = (TOTAL_BYTES / threads * threads) as f64;
    (best > 0.0).then(|| Bandwidth { threads: threads as u32, bytes_per_second: (bytes / best) as u64 })
}

/// The middle of a pattern's times, the later of the two middle ones.
fn median(times: &[Duration]) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

/// Times of all passes of one thread; each pass begins together with the other threads'.
fn read_passes(cpu: usize, bytes: usize, passes: usize, barrier: &Barrier) -> Vec<Duration> {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Unpinned is a worse measurement, not a failed one.
    let _ = rustix::thread::sched_setaffinity(None, &set);
    let mut block = vec![0u64; bytes / 8];
    advise_huge(&mut block);
    block.fill(1);
    let mut times = Vec::new();
    for streams in STREAMS {
        for _ in 0..passes {
            barrier.wait();
            let start = Instant::now();
            let sum = read(&block, streams);
            times.push(start.elapsed());
            assert_eq!(black_box(sum), expected(block.len(), streams), "every word was read");
        }
    }
    times
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
        let found = measure(1, QUICK);
        assert!((100_000_000..10_000_000_000_000).contains(&found.as_ref().unwrap().bytes_per_second), "{found:?}");
    }
}
