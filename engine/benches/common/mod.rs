//! What the benches share: criterion times, the answer is checked before, and beside each speed stands the machine's limit,
//! measured just after it in the same process.
//!
//! The limits are the probes of `harness roofline`, compiled from the harness's sources: the engine must not know the
//! harness, not even for development (its tests would build the harness, which builds the engine), and a second set of
//! probes would be a second truth. They use nothing of the harness but each other.

#![allow(dead_code, unreachable_pub)] // Each bench is a program that uses some of this.

mod limits;
mod report;

#[allow(unused_imports)] // Those of tests, which only the harness runs.
#[path = "../../../harness/src/probe"]
mod probe {
    pub mod bandwidth;
    pub mod lockstep;
    pub mod peak;
}

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, Throughput};
use engine::{Isa, Kernels};

use limits::Limits;
use report::Row;

/// Bytes that several copies of a matrix take, read in turn as a model's layers are: from DRAM on most machines, and held
/// against plain reading of as many bytes on all.
pub const STREAM_BYTES: usize = 512 << 20;

/// What the multiply-adds are done in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// int8 x int8, summed in i32.
    Int8,
    /// f32.
    F32,
    /// bf16 x bf16, summed in f32; by f32's instruction on a path that has no other.
    Bf16,
}

/// What one pass of a case does at least, whatever the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Bytes read: of weights or of a cache; of small steps all that is read and written.
    pub bytes: usize,
    /// Bytes of the memory that they lie in; reading as many again and again is the limit of the bytes.
    pub within: usize,
    /// Multiplications and additions; where there are none, what the bench's head says is counted.
    pub operations: usize,
    /// Theirs.
    pub arithmetic: Arithmetic,
}

impl Work {
    /// For criterion's files: operations as its elements, and bytes. `None` of a pass that does neither.
    pub fn throughput(&self) -> Option<Throughput> {
        let (elements, bytes) = (self.operations as u64, self.bytes as u64);
        match (elements, bytes) {
            (0, 0) => None,
            (0, _) => Some(Throughput::Bytes(bytes)),
            (_, 0) => Some(Throughput::Elements(elements)),
            _ => Some(Throughput::ElementsAndBytes { elements, bytes }),
        }
    }

    /// Whether criterion was told the truth; elements alone are enough where bytes are known only after a pass.
    fn was_told(&self, told: Option<&Throughput>) -> bool {
        match told {
            Some(Throughput::Elements(operations)) => *operations == self.operations as u64,
            told => told == self.throughput().as_ref(),
        }
    }
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub struct Case {
    /// `workload/kernel/shape`.
    pub name: String,
    /// The code path.
    pub isa: Isa,
    /// Threads of the pool.
    pub threads: usize,
}

impl Case {
    /// The kernels of the case's path.
    pub fn kernels(&self) -> Kernels {
        Kernels::new(Some(self.isa)).expect("an available ISA")
    }
}

/// A run of cases.
pub struct Bench {
    criterion: Criterion,
    limits: Limits,
    rows: Vec<Row>,
    /// Whether cases are tried and not timed (`cargo bench -- --test`, `cargo test`): small shapes will do.
    pub quick: bool,
}

/// What a case's calls left.
#[derive(Default)]
struct Record {
    work: Option<Work>,
    /// Passes, and how long they took.
    calls: Vec<(u64, Duration)>,
}

/// Times the passes of one call by criterion.
pub struct Timer<'a, 'b> {
    bencher: &'a mut Bencher<'b>,
    record: &'a mut Record,
    case: &'a Case,
    /// What criterion was told that a pass does.
    told: Option<Throughput>,
}

impl Bench {
    /// As the command line says.
    pub fn new() -> Bench {
        let has = |flag: &str| std::env::args().any(|arg| arg == flag);
        let criterion = Criterion::default().sample_size(10).nresamples(10_000).without_plots();
        // Left to itself it writes beside the sources when it is not cargo that starts the bench.
        let criterion = criterion.output_directory(&Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion"));
        let criterion = criterion.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
        Bench {
            criterion: criterion.configure_from_args(),
            limits: Limits::default(),
            rows: Vec::new(),
            quick: has("--test") || !has("--bench"),
        }
    }

    /// Has criterion run `body` (many times; not at all if the case is not asked for), which must call [`Timer::time`],
    /// and prints speed, limit and share. What `told` says of a pass stands in criterion's files and on its lines.
    pub fn case(&mut self, case: &Case, told: Option<Throughput>, mut body: impl FnMut(Timer<'_, '_>)) {
        let mut record = Record::default();
        let mut group = self.criterion.benchmark_group(&case.name);
        if let Some(told) = &told {
            group.throughput(told.clone());
        }
        group.bench_function(BenchmarkId::new(case.isa.name(), case.threads), |bencher| {
            body(Timer { bencher, record: &mut record, case, told: told.clone() });
        });
        group.finish();
        if let (Some(work), Some(seconds)) = (record.work, median(&record.calls)) {
            let row = Row::new(case, work, seconds, &mut self.limits);
            println!("{row}\n");
            self.rows.push(row);
        }
    }

    /// Prints the table of all cases and writes it to `target/kernels/<name>.csv`.
    pub fn finish(self, name: &str) {
        self.criterion.final_summary();
        if !self.rows.is_empty() {
            report::print(&self.rows);
            report::write(name, &self.rows);
        }
    }
}

impl Timer<'_, '_> {
    /// Times `pass`, which does `work`. Before the first time its answer is checked: a speed counts only then.
    ///
    /// # Panics
    /// If `right` says that the answer is wrong, or criterion was told of other work.
    pub fn time<S>(self, work: Work, state: &mut S, mut pass: impl FnMut(&mut S), right: impl FnOnce(&mut S) -> bool) {
        let Timer { bencher, record, case, told } = self;
        if record.work.replace(work).is_none() {
            assert!(work.was_told(told.as_ref()), "{}, {}: {work:?}, not {told:?}", case.name, case.isa);
            pass(state);
            assert!(right(state), "{}, {} threads, {}: a wrong answer", case.name, case.threads, case.isa);
        }
        bencher.iter_custom(|passes| {
            let start = Instant::now();
            (0..passes).for_each(|_| pass(black_box(state)));
            let elapsed = start.elapsed();
            record.calls.push((passes, elapsed));
            elapsed
        });
    }
}

/// Seconds of a pass, the median of criterion's samples: without its warm-up, which are the first calls, of 1, 2, 4, ..
/// passes. `None` if there were no others.
fn median(calls: &[(u64, Duration)]) -> Option<f64> {
    let warm_up = calls.iter().enumerate().take_while(|(i, (passes, _))| 1u64.checked_shl(*i as u32) == Some(*passes));
    let mut times: Vec<f64> =
        calls[warm_up.count()..].iter().map(|(passes, time)| time.as_secs_f64() / *passes as f64).collect();
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Thread counts: one, and all CPUs.
pub fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all > 1 { vec![1, all] } else { vec![1] }
}

/// The paths of this CPU that differ: AVX-VNNI does only where `bytes` are multiplied, of ternary weights or an int8 cache.
pub fn paths(bytes: bool) -> Vec<Isa> {
    Isa::available().into_iter().filter(|isa| bytes || *isa != Isa::AvxVnni).collect()
}

/// Bits with no pattern.
pub fn noise(i: usize) -> u64 {
    (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8
}

/// Numbers in [-1, 1) with no pattern.
pub fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| (noise(i + (seed << 32)) >> 32) as f32 / 2f32.powi(23) - 1.0).collect()
}

/// Whether two answers are equal to the last bit.
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
