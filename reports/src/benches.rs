//! What criterion left of the benches, as records: a row a case with its time, its interval, bytes and operations a second, and
//! where the benches told of it the machine's limit.
//!
//! Criterion writes three files a case below `CASE/new/`: `benchmark.json` (names and throughput), `estimates.json` (times in ns
//! with intervals) and `sample.json` (every sample). The benches of `engine` add `kernels/*.csv` beside its folder, of their
//! last run alone: bytes that only a pass tells, and limits measured in the same minute.

mod read;
mod show;

use serde::Serialize;
use suites::run::{Build, Machine};

pub use read::read;
pub use show::show;

/// Version of [`Records`].
pub const SCHEMA: u32 = 1;

/// Benches of one machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Records {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The machine that joined them, which is taken for the one they ran on: criterion does not record it.
    pub machine: Machine,
    /// The program that joined them; of its revision the same is taken.
    pub build: Build,
    /// What a reader must know before believing a figure.
    pub warnings: Vec<String>,
    /// The cases.
    pub benches: Vec<Bench>,
    /// Files that are none of criterion's, torn or of different runs, each with what was expected.
    pub left_out: Vec<String>,
}

/// One case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bench {
    /// Criterion's whole name, `group/function/value`.
    pub name: String,
    /// Group: in this project's benches `workload/kernel/shape`.
    pub group: String,
    /// Function within it: in this project's benches the ISA path.
    pub function: Option<String>,
    /// Its parameter: in this project's benches the threads.
    pub value: Option<String>,
    /// The group without the shape.
    pub kernel: String,
    /// Numbers in the group: `6912x2560`, `4096`. `None` where it has none.
    pub shape: Option<String>,
    /// The ISA path, where the function names one.
    pub isa: Option<String>,
    /// Threads, where the function names an ISA path and the parameter is a number.
    pub threads: Option<u32>,
    /// Nanoseconds of an iteration: the median over samples.
    pub median_ns: f64,
    /// Its bootstrap interval's lower end, of criterion.
    pub lo_ns: f64,
    /// Its upper end.
    pub hi_ns: f64,
    /// The interval's coverage: 0.95 unless asked otherwise.
    pub confidence: f64,
    /// Samples. They are of one process: no replicates.
    pub samples: usize,
    /// Bytes of an iteration. `None` where nothing tells.
    pub bytes: Option<u64>,
    /// Operations of an iteration (criterion's elements). `None` where nothing tells.
    pub operations: Option<u64>,
    /// Bytes a second, at the median.
    pub bytes_per_second: Option<f64>,
    /// Operations a second, at the median.
    pub operations_per_second: Option<f64>,
    /// The machine's limit that binds: `bytes`, or a multiply-add's name.
    pub bound: Option<String>,
    /// Speed over that limit.
    pub share: Option<f64>,
    /// When criterion wrote it: seconds since 1970.
    pub written_unix_s: Option<u64>,
}
