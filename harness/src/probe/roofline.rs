//! The machine's limits: read bandwidth of DRAM and caches, and peaks of multiply-adds, by thread count.

use std::fs;
use std::path::Path;

use suites::run::Limit;

use super::{bandwidth, peak};

/// Caches of the first CPU that a block is fitted to, in bytes; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caches {
    /// The second level, of one core.
    pub l2: Option<usize>,
    /// The third level.
    pub l3: Option<usize>,
    /// CPUs that share the third level.
    pub l3_cpus: Option<usize>,
}

impl Caches {
    /// Those below `root`, `/sys/devices/system/cpu/cpu0/cache` of a live system.
    pub fn read(root: &Path) -> Caches {
        let mut caches = Caches::default();
        for index in 0..8 {
            let file = |name: &str| fs::read_to_string(root.join(format!("index{index}")).join(name)).ok();
            let Some(size) = file("size").and_then(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok()) else {
                continue;
            };
            match file("level").as_deref().map(str::trim) {
                Some("2") => caches.l2 = Some(size << 10),
                Some("3") => {
                    caches.l3 = Some(size << 10);
                    caches.l3_cpus = file("shared_cpu_list").and_then(|list| count(list.trim()));
                }
                _ => {}
            }
        }
        caches
    }

    /// Those of this machine.
    pub fn here() -> Caches {
        Caches::read(Path::new("/sys/devices/system/cpu/cpu0/cache"))
    }

    /// The block of each of `threads` threads that stays in its L2 and not in its L1.
    fn l2_block(self, _: usize) -> Result<usize, String> {
        self.l2.map(|l2| l2 / 2).ok_or_else(|| "the size of the L2 cache is unknown".to_owned())
    }

    /// Bytes of all third-level caches that `threads` threads can fill; 0 if there is none or its size is unknown.
    fn l3_total(self, threads: usize) -> usize {
        self.l3.unwrap_or(0) * threads.div_ceil(self.l3_cpus.unwrap_or(threads).max(1))
    }

    /// The block of each of `threads` threads that stays in L3 and not in its L2.
    fn l3_block(self, threads: usize) -> Result<usize, String> {
        let (Some(l2), Some(l3)) = (self.l2, self.l3) else {
            return Err("there is no L3 cache, or its size is unknown".to_owned());
        };
        let block = l3 / 2 / threads.min(self.l3_cpus.unwrap_or(threads)).max(1);
        if block < 2 * l2 {
            return Err(format!("a thread's share of L3, {block} bytes, is not well above its L2 of {l2}"));
        }
        Ok(block)
    }
}

/// CPUs in a list such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let one = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.parse::<usize>().ok()? + 1).checked_sub(first.parse().ok()?)
    };
    list.split(',').map(one).sum()
}

/// Every limit at `threads` threads (one to two seconds).
pub fn measure(threads: usize) -> Vec<Limit> {
    let caches = Caches::here();
    let mut limits = vec![dram(threads, bandwidth::THOROUGH)];
    for (name, block) in [("l3", caches.l3_block(threads)), ("l2", caches.l2_block(threads))] {
        limits.push(cache(name, threads, block, bandwidth::THOROUGH));
    }
    limits.extend(peak::Element::ALL.map(|element| multiply_adds(element, threads, None, peak::THOROUGH)));
    limits
}

/// What decoding is held against when it reads `bytes` for each token: L3, where they fit half of it, otherwise DRAM.
pub fn decode(threads: usize, bytes: u64) -> Limit {
    let caches = Caches::here();
    if caches.l3.is_some_and(|l3| bytes <= l3 as u64 / 2) {
        let limit = cache("l3", threads, caches.l3_block(threads), bandwidth::QUICK);
        if limit.per_second.is_some() {
            return limit;
        }
    }
    dram(threads, bandwidth::QUICK)
}

/// What prefill with weights of `element` is held against: the best instruction of the path that is forced, or that the CPU
/// has; where there is none for these weights, f32. Of bf16 too, where f32's multiply-adds are the faster: widening is exact.
pub fn prefill(threads: usize, element: peak::Element, path: Option<&str>) -> Limit {
    let known = |limit: &Limit| limit.per_second.is_some();
    let best = |element| {
        let forced = path.map(|path| multiply_adds(element, threads, Some(path), peak::QUICK)).filter(known);
        forced.unwrap_or_else(|| multiply_adds(element, threads, None, peak::QUICK))
    };
    let limit = best(element);
    if known(&limit) && element != peak::Element::Bf16 {
        return limit;
    }
    let widened = best(peak::Element::F32);
    if widened.per_second > limit.per_second { widened } else { limit }
}

fn dram(threads: usize, passes: usize) -> Limit {
    let l3 = Caches::here().l3_total(threads);
    read("dram", threads, bandwidth::dram(threads, l3, passes).ok_or_else(|| "a thread failed".to_owned()))
}

fn cache(name: &str, threads: usize, block: Result<usize, String>, passes: usize) -> Limit {
    let found = block.and_then(|block| bandwidth::cache(threads, block, passes).ok_or("a thread failed".to_owned()));
    read(name, threads, found)
}

fn read(name: &str, threads: usize, found: Result<bandwidth::Found, String>) -> Limit {
    let how = |found: bandwidth::Found| {
        let bandwidth::Pattern { streams, prefetch } = found.pattern;
        let noun = if streams == 1 { "stream" } else { "streams" };
        let ahead = if prefetch { ", prefetched" } else { "" };
        format!("reading {} KiB a thread in {streams} {noun}{ahead}", found.block >> 10)
    };
    limit(name, "bytes/s", threads, found.map(|found| (found.bytes_per_second, how(found))))
}

fn multiply_adds(element: peak::Element, threads: usize, path: Option<&str>, passes: usize) -> Limit {
    let found = peak::measure(threads, element, path, passes);
    let found = found.map(|found| (found.operations_per_second, found.instruction.to_owned()));
    limit(element.name(), "operations/s", threads, found)
}

fn limit(name: &str, unit: &str, threads: usize, found: Result<(u64, String), String>) -> Limit {
    let (per_second, how) = match found {
        Ok((per_second, how)) => (Some(per_second), how),
        Err(reason) => (None, reason),
    };
    Limit { threads: threads as u32, name: name.to_owned(), unit: unit.to_owned(), per_second, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_files(root: &Path, index: u32, level: &str, size: &str, cpus: &str) {
        let folder = root.join(format!("index{index}"));
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in [("level", level), ("size", size), ("shared_cpu_list", cpus)] {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn blocks_fit_the_cache_they_are_for() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Caches::read(root.path()), Caches::default());
        cache_files(root.path(), 0, "1", "32K", "0");
        cache_files(root.path(), 2, "2", "512K", "0,32");
        cache_files(root.path(), 3, "3", "32768K", "0-7,32-39");
        let caches = Caches::read(root.path());
        assert_eq!(caches, Caches { l2: Some(512 << 10), l3: Some(32 << 20), l3_cpus: Some(16) });
        assert_eq!(caches.l2_block(1), Ok(256 << 10));
        assert_eq!(caches.l3_block(1), Ok(16 << 20));
        // 64 threads have four such caches.
        assert_eq!(caches.l3_block(64), Ok(1 << 20));
        assert_eq!([1, 16, 17, 64].map(|threads| caches.l3_total(threads) >> 20), [32, 32, 64, 128]);
        assert_eq!(Caches::default().l3_total(8), 0);
        let small = Caches { l3: Some(8 << 20), ..caches };
        assert!(small.l3_block(16).unwrap_err().contains("is not well above"));
        assert!(Caches::default().l3_block(1).is_err() && Caches::default().l2_block(1).is_err());
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,8"), Some(5));
        assert_eq!(count("3-0"), None);
        assert_eq!(count("x"), None);
    }

    #[test]
    fn every_limit_has_a_figure_or_a_reason() {
        let limits = measure(1);
        assert_eq!(
            limits.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
            ["dram", "l3", "l2", "int8", "bf16", "f32"]
        );
        for limit in limits {
            assert!(limit.per_second != Some(0) && !limit.how.is_empty(), "{limit:?}");
        }
    }
}
