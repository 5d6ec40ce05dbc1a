//! Criterion's folder in, cases out. The files are nobody's word: each is checked, and what is wrong with one keeps no other out.

use super::Bench;
use crate::error::Error;
use crate::stats::median;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// ISA paths of the engine by their names (`engine::Isa`, which reports do not link).
const ISAS: [&str; 5] = ["scalar", "avx2", "avxvnni", "avx512", "amx"];
/// Folders below each other that are looked into: criterion makes four.
const DEEPEST: usize = 12;
/// Bytes that a file may have: criterion's longest are a few kilobytes.
const LARGEST: u64 = 16 << 20;

#[derive(Deserialize)]
struct Benchmark {
    group_id: String,
    function_id: Option<String>,
    value_str: Option<String>,
    throughput: Option<Throughput>,
    full_id: String,
}

#[derive(Deserialize)]
enum Throughput {
    Bits(u64),
    Bytes(u64),
    BytesDecimal(u64),
    Elements(u64),
    ElementsAndBytes { elements: u64, bytes: u64 },
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    confidence_interval: Interval,
    point_estimate: f64,
}

#[derive(Deserialize)]
struct Interval {
    confidence_level: f64,
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// A row of the benches' own tables.
#[derive(Deserialize)]
struct Told {
    case: String,
    isa: String,
    threads: u32,
    median_ns: f64,
    bytes: u64,
    operations: u64,
    bound: String,
    share: Option<f64>,
}

/// Reads all cases below `criterion`, by name, and joins the benches' own tables in `kernels`; and tells of each file that is left
/// out, with what was expected.
///
/// # Errors
/// A folder that can't be read.
pub fn read(criterion: &Path, kernels: &Path) -> Result<(Vec<Bench>, Vec<String>), Error> {
    let (mut folders, mut left_out) = (Vec::new(), Vec::new());
    walk(criterion, 0, &mut folders, &mut left_out)?;
    folders.sort();
    let mut found: Vec<(Bench, (f64, f64))> = Vec::new();
    for folder in folders {
        match case(&folder) {
            Ok(case) => found.push(case),
            Err(message) => left_out.push(message),
        }
    }
    let told = tables(kernels, &mut left_out);
    let mut benches: Vec<Bench> = found.into_iter().map(|(bench, range)| joined(bench, range, &told)).collect();
    benches.sort_by(|a, b| a.group.cmp(&b.group).then(a.function.cmp(&b.function)).then(a.name.cmp(&b.name)));
    Ok((benches, left_out))
}

/// Collects the folders called `new`. Links are not followed, so that none leads in a circle.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>, left_out: &mut Vec<String>) -> Result<(), Error> {
    let unread = |source| Error::Read { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        if !entry.file_type().map_err(unread)?.is_dir() {
            continue;
        }
        let path = entry.path();
        if entry.file_name() == "new" {
            found.push(path);
        } else if depth < DEEPEST {
            walk(&path, depth + 1, found, left_out)?;
        } else {
            left_out.push(format!("{}: deeper than criterion's folders go", path.display()));
        }
    }
    Ok(())
}

fn file<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, String> {
    let path = folder.join(name);
    let wrong = |message: String| format!("{}: {message}", path.display());
    let size = std::fs::metadata(&path).map_err(|e| wrong(format!("expected criterion's file: {e}")))?.len();
    if size > LARGEST {
        return Err(wrong(format!("expected a file of criterion, at most {LARGEST} bytes, found {size}")));
    }
    let bytes = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| wrong(format!("expected what criterion writes: {e}")))
}

/// One case, and the least and the largest of its samples in ns.
fn case(folder: &Path) -> Result<(Bench, (f64, f64)), String> {
    let benchmark: Benchmark = file(folder, "benchmark.json")?;
    let Estimates { median: estimate } = file(folder, "estimates.json")?;
    let sample: Sample = file(folder, "sample.json")?;
    let (value, interval) = (estimate.point_estimate, &estimate.confidence_interval);
    let wrong = |name: &str, key: &str, expected: &str, found: String| {
        Err(format!("{}: {key}: expected {expected}, found {found}", folder.join(name).display()))
    };
    let (lo, hi) = (interval.lower_bound, interval.upper_bound);
    if !(value.is_finite() && value > 0.0) {
        return wrong("estimates.json", "median.point_estimate", "nanoseconds over 0", value.to_string());
    }
    if !(lo > 0.0 && lo <= value && value <= hi && hi.is_finite()) {
        let key = "median.confidence_interval";
        return wrong("estimates.json", key, "bounds over 0 on either side of the estimate", format!("{lo} to {hi}"));
    }
    let level = interval.confidence_level;
    if !(level > 0.0 && level < 1.0) {
        let key = "median.confidence_interval.confidence_level";
        return wrong("estimates.json", key, "a part between 0 and 1", level.to_string());
    }
    if sample.iters.len() != sample.times.len() || sample.iters.is_empty() {
        let found = format!("{} and {}", sample.iters.len(), sample.times.len());
        return wrong("sample.json", "iters, times", "as many of one as of the other, and some", found);
    }
    let times: Vec<f64> = sample.times.iter().zip(&sample.iters).map(|(time, iters)| time / iters).collect();
    if let Some(bad) = times.iter().find(|time| !(time.is_finite() && **time > 0.0)) {
        return wrong("sample.json", "times, iters", "a time of an iteration over 0", bad.to_string());
    }
    // The three files are written one after the other.
    if let Some(own) = median(&times).filter(|own| (own / value - 1.0).abs() > 1e-6) {
        let expected = format!("the median of sample.json, {own} ns (are the two of one run?)");
        return wrong("estimates.json", "median.point_estimate", &expected, value.to_string());
    }
    let range = (times.iter().copied().fold(f64::INFINITY, f64::min), times.iter().copied().fold(0.0, f64::max));
    let written = std::fs::metadata(folder.join("estimates.json")).and_then(|data| data.modified()).ok();
    let mut bench = named(benchmark);
    (bench.median_ns, bench.lo_ns, bench.hi_ns, bench.confidence) = (value, lo, hi, level);
    bench.samples = times.len();
    bench.written_unix_s = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_secs());
    Ok((bench, range))
}

/// What the names tell; the times are not filled in.
fn named(benchmark: Benchmark) -> Bench {
    let Benchmark { group_id: group, function_id: function, value_str: value, throughput, full_id: name } = benchmark;
    let (bytes, operations) = match throughput {
        Some(Throughput::Bits(bits)) => (Some(bits / 8), None),
        Some(Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes)) => (Some(bytes), None),
        Some(Throughput::Elements(elements)) => (None, Some(elements)),
        Some(Throughput::ElementsAndBytes { elements, bytes }) => (Some(bytes), Some(elements)),
        None => (None, None),
    };
    let is_shape = |part: &&str| !part.is_empty() && part.split('x').all(|n| n.parse::<u64>().is_ok());
    let parts: Vec<&str> = group.split('/').collect();
    let shape = parts.iter().skip(1).copied().find(is_shape).map(str::to_owned);
    let kernel = parts.iter().enumerate().filter(|(at, part)| *at == 0 || Some(**part) != shape.as_deref());
    let kernel = kernel.map(|(_, part)| *part).collect::<Vec<_>>().join("/");
    let isa = function.clone().filter(|function| ISAS.contains(&function.as_str()));
    let threads = value.as_ref().filter(|_| isa.is_some()).and_then(|value| value.parse().ok());
    Bench {
        name,
        group,
        function,
        value,
        kernel,
        shape,
        isa,
        threads,
        median_ns: 0.0,
        lo_ns: 0.0,
        hi_ns: 0.0,
        confidence: 0.0,
        samples: 0,
        bytes,
        operations,
        bytes_per_second: None,
        operations_per_second: None,
        bound: None,
        share: None,
        written_unix_s: None,
    }
}

/// Case, ISA path, threads.
type Key = (String, String, u32);

/// The benches' own tables; none is no fault, as other benches write none.
fn tables(folder: &Path, left_out: &mut Vec<String>) -> BTreeMap<Key, Told> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ending| ending == "csv")).collect();
    files.sort();
    let mut found = BTreeMap::new();
    for path in files {
        let rows = match csv::Reader::from_path(&path) {
            Ok(rows) => rows,
            Err(error) => {
                left_out.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        for row in rows.into_deserialize::<Told>() {
            match row {
                Ok(row) => drop(found.insert((row.case.clone(), row.isa.clone(), row.threads), row)),
                Err(error) => {
                    left_out.push(format!("{}: expected a row of the benches' table: {error}", path.display()))
                }
            }
        }
    }
    found
}

/// The case with what the benches told of it, where their time lies within its samples: else they told of another run.
fn joined(mut bench: Bench, (least, largest): (f64, f64), told: &BTreeMap<Key, Told>) -> Bench {
    let key = bench.isa.clone().zip(bench.threads).map(|(isa, threads)| (bench.group.clone(), isa, threads));
    // Tables round to a tenth of a nanosecond.
    let same_run = |told: &&Told| told.median_ns >= least - 0.1 && told.median_ns <= largest + 0.1;
    if let Some(told) = key.and_then(|key| told.get(&key)).filter(same_run) {
        bench.bytes = bench.bytes.or((told.bytes > 0).then_some(told.bytes));
        bench.operations = bench.operations.or((told.operations > 0).then_some(told.operations));
        if let Some(share) = told.share.filter(|share| share.is_finite() && *share > 0.0 && !told.bound.is_empty()) {
            (bench.bound, bench.share) = (Some(told.bound.clone()), Some(share));
        }
    }
    let rate = |amount: Option<u64>| amount.map(|amount| amount as f64 * 1e9 / bench.median_ns);
    (bench.bytes_per_second, bench.operations_per_second) = (rate(bench.bytes), rate(bench.operations));
    bench
}
